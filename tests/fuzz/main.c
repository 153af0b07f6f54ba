/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replays a corpus without a fuzzer: each argument is a file, or a directory of files. Fails if
 * there was nothing to replay. libFuzzer brings a main of its own.
 */
#include <dirent.h>
#include <stdio.h>

#include "base/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct err *replay_file(const char *path)
{
    AUTO_BUF struct buf data = BUF_INIT((size_t)1024 * 1024);
    TRY(file_read(path, (size_t)1024 * 1024, &data, NULL));
    /* A block of exactly this size, so that the sanitizer sees a read behind it. */
    uint8_t *exact = mem_alloc(data.len > 0 ? data.len : 1);
    memcpy(exact, buf_str(&data), data.len);
    LLVMFuzzerTestOneInput(exact, data.len);
    free(exact);
    return NULL;
}

static struct err *replay(const char *path, size_t *count)
{
    AUTO_STRV struct strv names = {0};
    DIR *dir = opendir(path);
    if (dir == NULL) {
        ++*count;
        return replay_file(path);
    }
    closedir(dir);
    TRY(file_list(path, 100000, &names, NULL));
    for (size_t i = 0; i < names.n; i++) {
        AUTO_FREE char *file = str_printf("%s/%s", path, names.v[i]);
        TRY(replay_file(file));
        ++*count;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    size_t count = 0;
    for (int i = 1; i < argc; i++) {
        AUTO_ERR struct err *e = replay(argv[i], &count);
        if (e != NULL) {
            fprintf(stderr, "%s\n", err_text(e));
            return 1;
        }
    }
    printf("%zu inputs replayed\n", count);
    return count > 0 ? 0 : 1;
}
