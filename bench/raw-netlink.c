/* One attachment over raw netlink with nothing around it: what the kernel itself takes. Arguments: rounds, pause in ms. Needs CAP_NET_ADMIN. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char buf[8192];
static struct nlmsghdr *h;

static void begin(int type, int flags, const void *head, int len) {
  memset(buf, 0, sizeof buf);
  h = (struct nlmsghdr *)buf;
  h->nlmsg_type = type;
  h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
  h->nlmsg_len = NLMSG_LENGTH(len);
  memcpy(NLMSG_DATA(h), head, len);
}
static struct rtattr *put(int type, const void *data, int len) {
  struct rtattr *a = (struct rtattr *)(buf + NLMSG_ALIGN(h->nlmsg_len));
  a->rta_type = type;
  a->rta_len = RTA_LENGTH(len);
  if (len) memcpy(RTA_DATA(a), data, len);
  h->nlmsg_len = NLMSG_ALIGN(h->nlmsg_len) + RTA_ALIGN(a->rta_len);
  return a;
}
static void end(struct rtattr *a) { a->rta_len = buf + h->nlmsg_len - (char *)a; }
static void text(int type, const char *s) { put(type, s, strlen(s) + 1); }
static void number(int type, unsigned n) { put(type, &n, 4); }
static int open_in(int ns, int home) {
  if (ns >= 0 && setns(ns, CLONE_NEWNET)) exit(1);
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (ns >= 0 && setns(home, CLONE_NEWNET)) exit(1);
  return fd;
}
static void talk(int fd, const char *what) {
  char answer[8192];
  if (send(fd, buf, h->nlmsg_len, 0) < 0) { perror(what); exit(1); }
  if (recv(fd, answer, sizeof answer, 0) < 0) { perror(what); exit(1); }
  int error = ((struct nlmsgerr *)NLMSG_DATA((struct nlmsghdr *)answer))->error;
  if (error) { fprintf(stderr, "%s: %s\n", what, strerror(-error)); exit(1); }
}
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}
static int order(const void *a, const void *b) { return *(double *)a < *(double *)b ? -1 : 1; }

int main(int argc, char **argv) {
  int rounds = argc > 1 ? atoi(argv[1]) : 100, pause = argc > 2 ? atoi(argv[2]) : 60;
  double *birth = calloc(rounds, 8), *rest = calloc(rounds, 8), *whole = calloc(rounds, 8);
  int home = open("/proc/self/ns/net", O_RDONLY);
  if (unshare(CLONE_NEWNET)) return perror("unshare"), 1;
  int host = open("/proc/self/ns/net", O_RDONLY);
  if (unshare(CLONE_NEWNET)) return perror("unshare"), 1;
  int inside = open("/proc/self/ns/net", O_RDONLY);
  setns(host, CLONE_NEWNET);
  int fd = open_in(-1, host);
  struct ifinfomsg none = {0}, up = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP};
  begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &up, sizeof up);
  text(IFLA_IFNAME, "br0");
  struct rtattr *info = put(IFLA_LINKINFO, 0, 0);
  text(IFLA_INFO_KIND, "bridge");
  end(info);
  talk(fd, "bridge");
  unsigned bridge = if_nametoindex("br0");
  for (int i = 0; i < rounds; i++) {
    char name[16], peer[16];
    unsigned char mac[6] = {2, 0, 0, 0, i >> 8, i};
    snprintf(name, 16, "veth%d", i);
    snprintf(peer, 16, "eth%d", i);
    usleep(pause * 1000);
    double start = now();
    int in = open_in(inside, host);
    begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &none, sizeof none);
    text(IFLA_IFNAME, name);
    number(IFLA_MASTER, bridge);
    number(IFLA_NUM_TX_QUEUES, 1);
    number(IFLA_NUM_RX_QUEUES, 1);
    info = put(IFLA_LINKINFO, 0, 0);
    text(IFLA_INFO_KIND, "veth");
    struct rtattr *data = put(IFLA_INFO_DATA, 0, 0), *other = put(VETH_INFO_PEER, &none, sizeof none);
    text(IFLA_IFNAME, peer);
    put(IFLA_ADDRESS, mac, 6);
    number(IFLA_NET_NS_FD, inside);
    number(IFLA_NUM_TX_QUEUES, 1);
    number(IFLA_NUM_RX_QUEUES, 1);
    end(other);
    end(data);
    end(info);
    talk(fd, "veth");
    birth[i] = now() - start;
    begin(RTM_NEWLINK, 0, &up, sizeof up);
    text(IFLA_IFNAME, name);
    talk(fd, "outer end up");
    setns(inside, CLONE_NEWNET);
    unsigned index = if_nametoindex(peer);
    setns(host, CLONE_NEWNET);
    struct ifaddrmsg address = {.ifa_family = AF_INET, .ifa_prefixlen = 16, .ifa_index = index};
    unsigned char ip[4] = {10, 99, i >> 8, i + 1};
    begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &address, sizeof address);
    put(IFA_LOCAL, ip, 4);
    put(IFA_ADDRESS, ip, 4);
    talk(in, "address");
    begin(RTM_NEWLINK, 0, &up, sizeof up);
    text(IFLA_IFNAME, peer);
    talk(in, "inner end up");
    close(in);
    whole[i] = now() - start;
    rest[i] = whole[i] - birth[i];
  }
  double *lists[] = {birth, rest, whole};
  for (int k = 0; k < 3; k++) {
    qsort(lists[k], rounds, 8, order);
    printf("%.3f%s", lists[k][rounds / 2], k < 2 ? " " : "\n");
  }
  (void)home;
  return 0;
}
