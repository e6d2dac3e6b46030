/* SPDX-License-Identifier: Apache-2.0 */
/* main() of a fuzzer without libFuzzer: gives it each file of its corpus, or of the files and folders that it is told. */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

static int inputs;

static void give_up(const char *path)
{
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    exit(1);
}

static void replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) {
        give_up(path);
    }
    long size = ftell(file);
    rewind(file);
    /* exactly as large as the input, so that a sanitizer sees what is read behind it */
    unsigned char *data = malloc(size > 0 ? (size_t)size : 1);
    if (size < 0 || !data || fread(data, 1, (size_t)size, file) != (size_t)size) {
        give_up(path);
    }
    fclose(file);
    /* the last line before a crash names its input */
    printf("%s\n", path);
    fflush(stdout);
    LLVMFuzzerTestOneInput(data, (size_t)size);
    free(data);
    inputs++;
}

static void replay(const char *path)
{
    char inside[PATH_MAX];
    DIR *folder = opendir(path);
    const struct dirent *entry = NULL;
    if (!folder && errno == ENOTDIR) {
        replay_file(path);
        return;
    }
    if (!folder) {
        give_up(path);
    }
    while ((entry = readdir(folder))) {
        if (entry->d_name[0] != '.') {
            snprintf(inside, sizeof(inside), "%s/%s", path, entry->d_name);
            replay_file(inside);
        }
    }
    closedir(folder);
}

/* tests/fuzz/fuzz_NAME has its inputs in tests/fuzz/corpus/NAME of the source. */
static void replay_corpus(const char *program)
{
    char corpus[PATH_MAX];
    const char *source = getenv("ISCEP_SOURCE");
    const char *name = strrchr(program, '/');
    name = name ? name + 1 : program;
    if (source && !strncmp(name, "fuzz_", 5)) {
        snprintf(corpus, sizeof(corpus), "%s/tests/fuzz/corpus/%s", source, name + 5);
        replay(corpus);
    }
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        replay(argv[i]);
    }
    if (argc == 1) {
        replay_corpus(argv[0]);
    }
    printf("%d inputs\n", inputs);
    return inputs ? 0 : 1;
}
