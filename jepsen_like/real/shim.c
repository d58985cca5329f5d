/* Preloaded into a peer (LD_PRELOAD): faults of the disk, switched while it runs.
 *
 * The file named by SULLAE_SHIM says what happens to fsync and fdatasync:
 *     no file     nothing
 *     hold        they wait for as long as the file says so
 *     fail        one of them gives EIO, and the file is removed
 *     slow N      each takes N milliseconds longer
 *
 * With SULLAE_SHIM_PORT=P, who listens on port P listens on P + 1 instead: a proxy takes the port itself.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int fault(char *text, size_t size)
{
    const char *path = getenv("SULLAE_SHIM");
    if (!path) return 0;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return 0;
    ssize_t count = read(descriptor, text, size - 1);
    close(descriptor);
    text[count > 0 ? count : 0] = 0;
    return count > 0;
}

static int before_sync(void)
{
    char text[16];
    struct timespec pause = {0, 2000000};
    int kept = errno;
    while (fault(text, sizeof text)) {
        if (!strncmp(text, "fail", 4) && unlink(getenv("SULLAE_SHIM")) == 0) {
            errno = EIO;
            return -1;
        }
        if (!strncmp(text, "slow", 4)) {
            long wait_ms = atol(text + 4);
            struct timespec longer = {wait_ms / 1000, wait_ms % 1000 * 1000000};
            nanosleep(&longer, NULL);
            break;
        }
        if (strncmp(text, "hold", 4)) break;
        nanosleep(&pause, NULL);
    }
    errno = kept;
    return 0;
}

typedef int (*sync_call)(int);

int fsync(int descriptor)
{
    static sync_call real;
    if (!real) real = (sync_call)dlsym(RTLD_NEXT, "fsync");
    return before_sync() ? -1 : real(descriptor);
}

int fdatasync(int descriptor)
{
    static sync_call real;
    if (!real) real = (sync_call)dlsym(RTLD_NEXT, "fdatasync");
    return before_sync() ? -1 : real(descriptor);
}

typedef int (*bind_call)(int, const struct sockaddr *, socklen_t);

int bind(int descriptor, const struct sockaddr *address, socklen_t size)
{
    static bind_call real;
    if (!real) real = (bind_call)dlsym(RTLD_NEXT, "bind");
    const char *port = getenv("SULLAE_SHIM_PORT");
    if (port && address && address->sa_family == AF_INET && size >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in moved = *(const struct sockaddr_in *)address;
        if (ntohs(moved.sin_port) == atoi(port)) {
            moved.sin_port = htons(atoi(port) + 1);
            return real(descriptor, (const struct sockaddr *)&moved, sizeof moved);
        }
    }
    return real(descriptor, address, size);
}
