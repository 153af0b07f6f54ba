// SPDX-License-Identifier: Apache-2.0
// Runs a command to its end and says what it took.
//
//     stopwatch REPORT COMMAND...
//
// The report is one line: exit status, seconds, CPU seconds, peak memory in KiB of the largest of
// its processes. Small itself, since a program inherits the peak of whoever starts it.

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: stopwatch REPORT COMMAND...\n");
        return 2;
    }
    double start = now();
    pid_t pid = fork();
    if (pid == 0) {
        execvp(argv[2], argv + 2);
        perror(argv[2]);
        _exit(127);
    }
    int status;
    struct rusage used;
    if (pid < 0 || wait4(pid, &status, 0, &used) != pid) {
        perror("stopwatch");
        return 1;
    }
    double wall = now() - start;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    FILE *report = fopen(argv[1], "w");
    if (!report) {
        perror(argv[1]);
        return 1;
    }
    fprintf(report, "%d %.6f %.6f %ld\n", code, wall,
            seconds(used.ru_utime) + seconds(used.ru_stime), used.ru_maxrss);
    return fclose(report) == 0 ? code : 1;
}
