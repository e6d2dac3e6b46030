/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AddressSanitizer knows nothing of pools: what is written behind one block of a pool lands in the next. So in builds
 * with sanitizers these take the place of libapr's functions, which calls them itself, too, and leave a gap behind each
 * block that nobody may touch. Pools keep their memory, and a block that is given again is free to be touched.
 */
#include "fuzz.h"

#if defined(__SANITIZE_ADDRESS__)
#define HAS_GAPS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_GAPS 1
#endif
#endif

#ifdef HAS_GAPS
#include <apr_strings.h>
#include <dlfcn.h>
#include <sanitizer/asan_interface.h>
#include <stdlib.h>

enum { GAP = 16, TEXT_FIRST = 512 };

/* The unit tests are linked with this file, too, and do without. */
static bool gaps_are_wanted;

void fuzz_pool_gaps(void)
{
    gaps_are_wanted = true;
}

__attribute__((visibility("default"))) void *apr_palloc(apr_pool_t *pool, apr_size_t size)
{
    static void *(*libapr)(apr_pool_t *, apr_size_t);
    if (!libapr) {
        void *found = dlsym(RTLD_NEXT, "apr_palloc");
        memcpy(&libapr, &found, sizeof(found));
    }
    if (!gaps_are_wanted || size > (apr_size_t)-1 - 2 * GAP) {
        return libapr(pool, size);
    }
    apr_size_t with_gap = APR_ALIGN_DEFAULT(size) + GAP;
    unsigned char *block = libapr(pool, with_gap);
    if (block) {
        ASAN_UNPOISON_MEMORY_REGION(block, with_gap);
        ASAN_POISON_MEMORY_REGION(block + size, with_gap - size);
    }
    return block;
}

/* libapr's own writes into what is left of the pool's memory. */
__attribute__((visibility("default"))) char *apr_pvsprintf(apr_pool_t *pool, const char *format, va_list arguments)
{
    int room = TEXT_FIRST;
    for (;;) {
        va_list copy;
        char *text = malloc((size_t)room);
        fuzz_check(text);
        va_copy(copy, arguments);
        int length = apr_vsnprintf(text, (apr_size_t)room, format, copy);
        va_end(copy);
        if (length < room - 1) {
            char *kept = apr_pstrmemdup(pool, text, (apr_size_t)length);
            free(text);
            return kept;
        }
        free(text);
        room *= 2;
    }
}
#else
void fuzz_pool_gaps(void)
{
}
#endif
