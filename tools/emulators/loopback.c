/*
 * Preloaded (LD_PRELOAD) into an engine that would listen on every interface: it listens on loopback instead.
 * A test's engine has no password, so nobody else may reach it. Everything but bind() to "any" is passed on unchanged.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

typedef int (*bind_function)(int, const struct sockaddr *, socklen_t);

int bind(int socket, const struct sockaddr *address, socklen_t length)
{
    bind_function next = (bind_function)dlsym(RTLD_NEXT, "bind");
    if (next == NULL) {
        errno = ENOSYS;
        return -1;
    }
    if (address != NULL && address->sa_family == AF_INET && length >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in here;
        memcpy(&here, address, sizeof here);
        if (here.sin_addr.s_addr == htonl(INADDR_ANY)) {
            here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            return next(socket, (const struct sockaddr *)&here, sizeof here);
        }
    }
    if (address != NULL && address->sa_family == AF_INET6 && length >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 here;
        memcpy(&here, address, sizeof here);
        if (IN6_IS_ADDR_UNSPECIFIED(&here.sin6_addr)) {
            /* The mapped form: programs that ask for both protocols are then found at 127.0.0.1. */
            inet_pton(AF_INET6, "::ffff:127.0.0.1", &here.sin6_addr);
            return next(socket, (const struct sockaddr *)&here, sizeof here);
        }
    }
    return next(socket, address, length);
}
