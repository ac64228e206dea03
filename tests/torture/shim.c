/* Preloaded into the bundle by faults.py: what its disk and its clock do is in a file of three doubles that is
   mapped here. [0]: how likely a read of the store fails; [1]: how likely a wait for the disk fails;
   [2]: by how many seconds the wall's clock is wrong. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static volatile double *told;
static double none[3];

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SHIM");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, file, 0);
    told = map == MAP_FAILED ? none : map;
    if (file >= 0)
        close(file);
}

static int is_store(int file) {
    char link[40], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0)
        return 0;
    path[size] = 0;
    return strstr(path, "puppetmaster.db") != NULL;
}

static int fails(int which, int file) {
    double likely = told ? told[which] : 0;
    if (likely <= 0 || drand48() >= likely || !is_store(file))
        return 0;
    errno = EIO;
    return 1;
}

ssize_t read(int file, void *to, size_t size) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real)
        real = dlsym(RTLD_NEXT, "read");
    return fails(0, file) ? -1 : real(file, to, size);
}

ssize_t pread64(int file, void *to, size_t size, off64_t at) {
    static ssize_t (*real)(int, void *, size_t, off64_t);
    if (!real)
        real = dlsym(RTLD_NEXT, "pread64");
    return fails(0, file) ? -1 : real(file, to, size, at);
}

ssize_t pread(int file, void *to, size_t size, off_t at) { return pread64(file, to, size, at); }

int fsync(int file) {
    static int (*real)(int);
    if (!real)
        real = dlsym(RTLD_NEXT, "fsync");
    return fails(1, file) ? -1 : real(file);
}

int fdatasync(int file) {
    static int (*real)(int);
    if (!real)
        real = dlsym(RTLD_NEXT, "fdatasync");
    return fails(1, file) ? -1 : real(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(clock, now);
    if (!done && clock == CLOCK_REALTIME && told) {
        double wrong = told[2];
        time_t whole = (time_t)wrong;
        long nanos = now->tv_nsec + (long)((wrong - whole) * 1e9) + 1000000000L;
        now->tv_sec += whole - 1 + nanos / 1000000000L;
        now->tv_nsec = nanos % 1000000000L;
    }
    return done;
}
