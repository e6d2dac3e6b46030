/* SPDX-License-Identifier: Apache-2.0 */
/* Modes of the scripted CA by chance. The same seed draws the same modes in the same order. */
#include "sim_ca.h"

#include <string.h>

#include <openssl/rand.h>

const char *sim_ca_mix_read(struct json_object *json, sim_ca_mix_t *mix)
{
    struct json_object *list = NULL, *value = NULL;
    double sum = 0;
    memset(mix, 0, sizeof(*mix));
    json_object_object_get_ex(json, "mix", &list);
    if (!json_object_is_type(list, json_type_object))
        return "mix wants weights by mode";
    json_object_object_foreach(list, name, weight)
    {
        sim_ca_mode_t mode;
        bool number = json_object_is_type(weight, json_type_int) || json_object_is_type(weight, json_type_double);
        if (!sim_ca_mode_find(name, &mode))
            return "unknown mode in the mix";
        if (!number || !(json_object_get_double(weight) >= 0))
            return "a weight is a number from 0";
        mix->weights[mode] += json_object_get_double(weight);
        sum += json_object_get_double(weight);
    }
    if (!(sum > 0))
        return "the weights of the mix are all 0";
    if (json_object_object_get_ex(json, "seed", &value))
        mix->random = (apr_uint64_t)json_object_get_int64(value);
    else if (RAND_bytes((unsigned char *)&mix->random, sizeof(mix->random)) != 1)
        return "no random numbers";
    return NULL;
}

/* From 0 up to, but without, 1: splitmix64. */
static double draw(apr_uint64_t *state)
{
    apr_uint64_t z = *state += 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    z ^= z >> 31;
    return (double)(z >> 11) / 9007199254740992.0;
}

sim_ca_mode_t sim_ca_mix_draw(sim_ca_mix_t *mix)
{
    double sum = 0;
    int last = MODE_OK;
    for (int i = 0; i < MODE_COUNT; i++)
        sum += mix->weights[i];
    double left = draw(&mix->random) * sum;
    for (int i = 0; i < MODE_COUNT; i++) {
        if (mix->weights[i] <= 0)
            continue;
        last = i;
        left -= mix->weights[i];
        if (left < 0)
            break;
    }
    return (sim_ca_mode_t)last;
}
