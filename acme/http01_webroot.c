/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens as files. They need no fsync: after a power cut the CA asks in vain and the name is tried
 * again, while the journal, which is synced, still knows what to clean up. They do need the rename:
 * a web server that reads a half-written token fails the validation.
 *
 * The directory belongs to others too. Nothing is listed or matched by pattern here; the only names
 * ever touched are tokens of ours, their temporary names and one test name.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "acme/base64url.h"
#include "acme/http01_private.h"
#include "base/file.h"

#define TOKEN_MODE       0644 /* the web server is another user */
#define JOURNAL_MODE     0600
#define JOURNAL_DIR_MODE 0700
#define JOURNAL_MAX      ((size_t)1024 * 1024)
#define ANSWER_MAX       1024
#define TEST_NAME        ".certherd-test.tmp"

static void fd_done(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
#define AUTO_FD AUTO(fd_done)

/* ---- errors with their fix ---- */

static struct err *no_permission(const char *dir, int number)
{
    unsigned uid = (unsigned)geteuid(), gid = (unsigned)getegid();
    struct stat st;
    if (stat(dir, &st) != 0)
        return err_advise(ERR_ERRNO(number, "token directory %s, as uid %u gid %u", dir, uid, gid),
                "let uid %u into the directories above %s: chmod a+x on each", uid, dir);
    struct err *e = ERR_ERRNO(number,
            "token directory %s cannot be written as uid %u gid %u (it has uid %u gid %u mode "
            "%04o)",
            dir, uid, gid, (unsigned)st.st_uid, (unsigned)st.st_gid, (unsigned)st.st_mode & 07777);
    return err_advise(e,
            "make the directory group-writable and setgid for certherd's group: chgrp %u %s; "
            "chmod 2775 %s",
            gid, dir, dir);
}

static struct err *dir_failed(const char *dir, int number)
{
    switch (number) {
    case EACCES:
    case EPERM:
        return no_permission(dir, number);
    case ENOENT:
    case ENOTDIR:
        return err_advise(ERR_ERRNO(number, "token directory %s", dir),
                "make it (mkdir -p %s) where the web server serves " HTTP01_PATH
                " from, or correct http01.token_dir or http01.webroot",
                dir);
    case EROFS:
        return err_advise(ERR_ERRNO(number, "token directory %s", dir),
                "mount it read-write (without :ro in the volumes of the container)");
    default:
        return ERR_ERRNO(number, "token directory %s", dir);
    }
}

/* ---- files ---- */

static struct err *open_dir(const char *dir, int *ret)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return dir_failed(dir, errno);
    *ret = fd;
    return NULL;
}

/* The name is a temporary one of ours: a file there can only be left from a crash. */
static int create_new(int dir_fd, const char *name)
{
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(dir_fd, name, flags, TOKEN_MODE);
    if (fd < 0 && errno == EEXIST && unlinkat(dir_fd, name, 0) == 0)
        fd = openat(dir_fd, name, flags, TOKEN_MODE);
    return fd;
}

/* 0 or an errno. */
static int write_all(int fd, const char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        ssize_t n = write(fd, text, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : EIO;
        text += n;
        left -= (size_t)n;
    }
    return 0;
}

static int write_file(int dir_fd, const char *name, const char *text)
{
    int fd = create_new(dir_fd, name);
    if (fd < 0)
        return errno;
    int number = fchmod(fd, TOKEN_MODE) == 0 ? write_all(fd, text) : errno;
    if (close(fd) != 0 && number == 0)
        number = errno;
    return number;
}

struct err *http01_file_write(const char *dir, const char *token, const char *answer)
{
    AUTO_FD int dir_fd = -1;
    TRY(open_dir(dir, &dir_fd));
    AUTO_FREE char *temporary = str_printf(".%s.tmp", token);
    int number = write_file(dir_fd, temporary, answer);
    if (number == 0 && renameat(dir_fd, temporary, dir_fd, token) != 0)
        number = errno;
    if (number == 0)
        return NULL;
    unlinkat(dir_fd, temporary, 0);
    return dir_failed(dir, number);
}

struct err *http01_file_check(
        const char *dir, const char *token, const char *answer, bool *ret_good)
{
    AUTO_FREE char *path = str_printf("%s/%s", dir, token);
    AUTO_FD int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno != ENOENT && errno != ELOOP)
        return dir_failed(dir, errno);
    char found[ANSWER_MAX];
    ssize_t n = fd >= 0 ? read(fd, found, sizeof(found)) : -1;
    *ret_good = n >= 0 && (size_t)n == strlen(answer) && memcmp(found, answer, (size_t)n) == 0;
    return NULL;
}

static struct err *remove_name(const char *dir, int dir_fd, const char *name)
{
    if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
        return NULL;
    return err_context(dir_failed(dir, errno), "removing %s", name);
}

struct err *http01_file_remove(const char *dir, const char *token)
{
    AUTO_FD int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0 && errno == ENOENT)
        return NULL;
    if (dir_fd < 0)
        return dir_failed(dir, errno);
    AUTO_FREE char *temporary = str_printf(".%s.tmp", token);
    struct err *e = remove_name(dir, dir_fd, token);
    return err_first(e, remove_name(dir, dir_fd, temporary));
}

struct err *http01_dir_check(const char *dir)
{
    AUTO_FD int dir_fd = -1;
    TRY(open_dir(dir, &dir_fd));
    int number = write_file(dir_fd, TEST_NAME, "certherd looks whether it may write here\n");
    /* Where it can't be removed, tokens could not be either. */
    if (unlinkat(dir_fd, TEST_NAME, 0) != 0 && number == 0)
        number = errno;
    return number == 0 ? NULL : dir_failed(dir, number);
}

/* ---- journal ---- */

struct err *http01_journal_prepare(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL || slash == path)
        return NULL;
    AUTO_FREE char *dir = mem_dup(path, (size_t)(slash - path));
    return file_mkdir(dir, JOURNAL_DIR_MODE);
}

struct err *http01_journal_write(const char *path, const char *names)
{
    if (names == NULL || names[0] == '\0')
        return file_remove(path);
    const struct file_write_options options = {.mode = JOURNAL_MODE};
    return file_write(path, names, strlen(names), &options);
}

struct err *http01_journal_load(const char *path, struct strv *ret)
{
    AUTO_BUF struct buf text = BUF_INIT(JOURNAL_MAX);
    bool exists = false;
    TRY(file_read(path, JOURNAL_MAX, &text, &exists));
    if (!exists)
        return NULL;
    AUTO_FREE char *lines = buf_steal(&text);
    char *rest = lines;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        /* A journal that was damaged must not make us remove anything else. */
        if (base64url_is_token(line, 1, ACME_TOKEN_MAX - 1))
            strv_add(ret, line);
    }
    return NULL;
}

struct err *http01_journal_sweep(const char *path, const char *dir)
{
    AUTO_STRV struct strv tokens = {0};
    TRY(http01_journal_load(path, &tokens));
    for (size_t i = 0; i < tokens.n; i++)
        TRY(http01_file_remove(dir, tokens.v[i]));
    return tokens.n == 0 ? NULL : file_remove(path);
}
