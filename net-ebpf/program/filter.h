// The admission filter: one function over a frame and the tables that user space fills.
//
// It drops early by the rules of net-ebpf/src/policy.rs and never by others; that file is its twin, and a
// test holds both to the same verdict and the same state on every packet. Layouts: net-ebpf/src/tables.rs.
// Only UAPI headers are used, and no BTF, so that the object depends on nothing but this text and clang.
#ifndef ALTHING_FILTER_H
#define ALTHING_FILTER_H

#include <linux/bpf.h>
#include <linux/types.h>

#define INLINE static inline __attribute__((always_inline))
#define SECTION(name) __attribute__((section(name), used))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

static void *(*const map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static __u64 (*const coarse_clock_ns)(void) = (void *)BPF_FUNC_ktime_get_coarse_ns;
static __u64 (*const ticks)(void) = (void *)BPF_FUNC_jiffies64;
static __u32 (*const cpu_index)(void) = (void *)BPF_FUNC_get_smp_processor_id;
static long (*const redirect_map)(void *map, __u64 key, __u64 flags) = (void *)BPF_FUNC_redirect_map;

// ---- datagrams (net-ebpf/src/abi.rs) --------------------------------------------------------------

#define MAGIC_AND_VERSION 0x016c61u // "al", version 1: the first three bytes, little-endian
#define KIND_SUBMIT 1
#define KIND_HELLO 3
#define KIND_COOKIE 4
#define KIND_HANDSHAKE 5
#define HEADER_SIZE 48
#define SUBMIT_SIZE_MIN (HEADER_SIZE + 156)
#define PACKET_SIZE_MAX (HEADER_SIZE + 1184)
#define HANDSHAKE_SIZE 160
#define INDEX_BITS 20       // of a session; its generation stands above
#define INDEX_MASK 0xfffffu
#define WINDOW 1024u        // tokens of a session
#define EPOCH_SHIFT 35      // an epoch of cookies in ns, as a power of two

struct header {
  __u32 start; // magic, version, kind
  __u32 session;
  __u64 counter, token, tag[2], reserved;
};

// ---- tables (net-ebpf/src/tables.rs) --------------------------------------------------------------

#define LOCAL_MAX 16
#define PEER_WORDS 4096
#define BLOCKED_WORDS 4096
#define WAYS 4
#define HELLO_SLOTS 65536
#define HANDSHAKE_SLOTS 16384
#define PEER_SYN_SLOTS 1024
#define SYN_SLOTS 16384
#define CPUS 256
#define COUNTERS 64

#define FLAG_ENFORCE 1u  // otherwise every packet passes, and is counted as if not
#define FLAG_REDIRECT 2u // what passes goes to the AF_XDP socket of its queue, where there is one
#define FLAG_ANSWER 4u   // hellos are answered here; otherwise they pass within the same budgets

#define PORT_UDP 1u
#define PORT_TCP_FIRST 2u
#define PORT_TCP_SECOND 4u

struct pace {
  __u64 interval_ns, depth_ns;
};

struct local4 {
  __u32 address, ports;
};

struct local6 {
  __u64 address[2], ports;
};

struct control {
  __u64 clock_ns; // 0: the kernel's; anything else stands in the place of both its clocks, for tests
  __u64 cookie_key[2];
  __u64 hash_key[2];
  __u32 flags, local4_count, local6_count;
  __u16 udp_port, tcp_port[2]; // as on the wire
  __u16 unused;
  __u32 tick_ns;
  struct pace hello, handshake, reply, peer_syn, syn;
  struct local4 local4[LOCAL_MAX];
  struct local6 local6[LOCAL_MAX];
  __u64 peers[PEER_WORDS];
  __u64 blocked[BLOCKED_WORDS];
};

struct state {
  __u64 hello[HELLO_SLOTS];
  __u64 handshake[HANDSHAKE_SLOTS];
  __u64 peer_syn[PEER_SYN_SLOTS];
  __u64 syn[SYN_SLOTS];
  __u64 reply[CPUS];
  __u64 check[CPUS];
};

struct counters {
  __u64 count[COUNTERS];
};

struct bpf_map_def {
  __u32 type, key_size, value_size, max_entries, map_flags, id, pinning;
};

struct bpf_map_def SECTION("maps") CONTROL = {
    .type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = sizeof(struct control), .max_entries = 1, .map_flags = BPF_F_MMAPABLE};
struct bpf_map_def SECTION("maps") STATE = {
    .type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = sizeof(struct state), .max_entries = 1, .map_flags = BPF_F_MMAPABLE};
// These are sized by the loader. A word of generations is for four sessions.
struct bpf_map_def SECTION("maps") GENERATIONS = {
    .type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 64 / 4, .map_flags = BPF_F_MMAPABLE};
struct bpf_map_def SECTION("maps") TOKENS = {
    .type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 64 * WINDOW, .map_flags = BPF_F_MMAPABLE};
struct bpf_map_def SECTION("maps") COUNTS = {
    .type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = sizeof(struct counters), .max_entries = CPUS, .map_flags = BPF_F_MMAPABLE};
struct bpf_map_def SECTION("maps") RINGS = {.type = BPF_MAP_TYPE_XSKMAP, .key_size = 4, .value_size = 4, .max_entries = 64};

// ---- verdicts: places of counters (net-ebpf/src/tables.rs and reject.rs) --------------------------

enum verdict {
  PASS_OTHER = 0,
  PASS_SUBMIT = 1,
  PASS_HANDSHAKE = 2,
  ANSWER_COOKIE = 3,
  PASS_PEER_SYN = 4,
  PASS_SYN = 5,
  PASS_HELLO = 6,
  DROP = 8, // and a reason
  DROP_TOO_SHORT = DROP + 0,
  DROP_TOO_LONG = DROP + 1,
  DROP_MAGIC = DROP + 2,
  DROP_VERSION = DROP + 3,
  DROP_KIND = DROP + 4,
  DROP_RESERVED = DROP + 5,
  DROP_SESSION = DROP + 6,
  DROP_TOKEN = DROP + 7,
  DROP_SOURCE_INVALID = DROP + 9,
  DROP_SOURCE_DENIED = DROP + 10,
  DROP_SOURCE_RATE = DROP + 11,
  DROP_HEADER = DROP + 14,
  DROP_FRAGMENT = DROP + 15,
  DROP_LENGTH = DROP + 16,
  DROP_COOKIE = DROP + 17,
  DROP_REPLY_RATE = DROP + 18,
  DROP_PEER_SYN_RATE = DROP + 19,
  DROP_SYN_RATE = DROP + 20,
};

// ---- small parts ----------------------------------------------------------------------------------

#define SWAP16(x) __builtin_bswap16(x)
#define ETHERTYPE_IPV4 0x0008 // as loaded from the wire, like every constant of this kind below
#define ETHERTYPE_IPV6 0xdd86
#define ETHERTYPE_VLAN 0x0081
#define ETHERTYPE_QINQ 0xa888
#define ETHERNET_SIZE 14
#define VLAN_SIZE 4
#define IPV4_SIZE 20
#define IPV6_SIZE 40
#define UDP_SIZE 8
#define TCP_SIZE 20
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define PROTOCOL_HOP_BY_HOP 0
#define PROTOCOL_ROUTING 43
#define PROTOCOL_FRAGMENT 44
#define PROTOCOL_AUTHENTICATION 51
#define PROTOCOL_DESTINATION 60
#define PROTOCOL_MOBILITY 135
#define PROTOCOL_HIP 139
#define PROTOCOL_SHIM6 140
// A host may limit how many extension headers it takes (RFC 8504, section 5.3); this is the number there.
#define EXTENSIONS_MAX 8

// The sender and the receiver of a packet, and what is known of its frame once it is ours.
struct packet {
  void *network;   // the IP header
  void *transport; // the UDP or TCP header
  __u32 size;      // bytes from the transport header to the end of the IP packet
  __u8 is_v6, is_cut; // family; a first fragment
};

// The clock that user space reads too: epochs and the list's ends.
INLINE __u64 clock_ns(const struct control *control) {
  __u64 set = control->clock_ns;
  return set ? set : coarse_clock_ns();
}

// The clock of buckets: as fine as the other, from another start, and without a call: the kernel puts a load in
// the call's place. A flood's packet pays for it, and no more.
INLINE __u64 bucket_clock_ns(const struct control *control) {
  __u64 set = control->clock_ns;
  return set ? set : ticks() * control->tick_ns;
}

// Places prefixes in tables where a stranger cannot aim: two rounds of a keyed multiplication. It is no
// cryptographic hash: who breaks it can share a bucket of unproved sources, and nothing else.
INLINE __u64 mix(const struct control *control, __u64 word) {
  __u64 hash = (word ^ control->hash_key[0]) * control->hash_key[1];
  hash ^= hash >> 32;
  hash *= control->hash_key[1];
  return hash ^ hash >> 29;
}

#define DOMAIN_IPV4 0xffffffff00000000ull

// What a source counts as: an IPv4 address, or an IPv6 /64.
INLINE __u64 host_of(const struct packet *packet) {
  if (packet->is_v6)
    return *(__u64 *)(packet->network + 8);
  return *(__u32 *)(packet->network + 12) | DOMAIN_IPV4;
}

// What its network counts as: the /24 or /48 around it.
INLINE __u64 network_of(const struct packet *packet) {
  if (packet->is_v6)
    return *(__u64 *)(packet->network + 8) & 0x0000ffffffffffffull;
  return (*(__u32 *)(packet->network + 12) & 0x00ffffffu) | DOMAIN_IPV4;
}

// One packet of a rate: the bucket is the time at which it will be full again (policy/bucket.rs). Of CPUs that
// meet in a bucket one wins each exchange; who loses four times in a row is above any rate.
INLINE int take(__u64 *bucket, const struct pace *pace, __u64 now) {
#pragma unroll
  for (int turn = 0; turn < 4; turn++) {
    __u64 old = *(volatile __u64 *)bucket;
    __u64 next = (old > now ? old : now) + pace->interval_ns;
    if (next - now > pace->depth_ns)
      return 0;
    if (LIKELY(__sync_val_compare_and_swap(bucket, old, next) == old))
      return 1;
  }
  return 0;
}

// Whether a proved source is listed: 40 bits of its hash, and until when in units of 2^30 ns.
INLINE int is_blocked(const struct control *control, __u64 hash, __u64 now) {
  const __u64 *set = &control->blocked[(hash & (BLOCKED_WORDS / WAYS - 1)) * WAYS];
#pragma unroll
  for (int way = 0; way < WAYS; way++) {
    __u64 word = set[way];
    __u64 left = (word - (now >> 30)) & 0xffffff;
    if (UNLIKELY(word >> 24 == hash >> 24) && word && left - 1 < 0x7fffff)
      return 1;
  }
  return 0;
}

INLINE int is_peer(const struct control *control, __u64 hash) {
  const __u64 *set = &control->peers[(hash & (PEER_WORDS / WAYS - 1)) * WAYS];
#pragma unroll
  for (int way = 0; way < WAYS; way++)
    if (set[way] >> 24 == hash >> 24 && set[way])
      return 1;
  return 0;
}

#define ROTATE(x, bits) ((x) << (bits) | (x) >> (64 - (bits)))
#define SIP_ROUND                                                                                                      \
  a += b, b = ROTATE(b, 13) ^ a, a = ROTATE(a, 32), c += d, d = ROTATE(d, 16) ^ c, a += d, d = ROTATE(d, 21) ^ a,     \
      c += b, b = ROTATE(b, 17) ^ c, c = ROTATE(c, 32)
#define SIP_WORD(word) d ^= (word), SIP_ROUND, SIP_ROUND, a ^= (word)

// SipHash-2-4 of addresses, ports and epoch (Aumasson and Bernstein, section 2): 16 bytes for IPv4, 40 for IPv6.
INLINE __u64 cookie_of(const struct control *control, const struct packet *packet, __u64 epoch) {
  __u64 low = control->cookie_key[0], high = control->cookie_key[1];
  __u64 a = low ^ 0x736f6d6570736575ull, b = high ^ 0x646f72616e646f6dull;
  __u64 c = low ^ 0x6c7967656e657261ull, d = high ^ 0x7465646279746573ull;
  __u64 last = 16ull << 56;
  if (packet->is_v6) {
    SIP_WORD(*(__u64 *)(packet->network + 8));
    SIP_WORD(*(__u64 *)(packet->network + 16));
    SIP_WORD(*(__u64 *)(packet->network + 24));
    SIP_WORD(*(__u64 *)(packet->network + 32));
    last = 40ull << 56;
  } else {
    SIP_WORD(*(__u32 *)(packet->network + 12) | (__u64) * (__u32 *)(packet->network + 16) << 32);
  }
  SIP_WORD(*(__u32 *)packet->transport | epoch << 32);
  SIP_WORD(last);
  c ^= 0xff;
  SIP_ROUND, SIP_ROUND, SIP_ROUND, SIP_ROUND;
  return a ^ b ^ c ^ d;
}

// Adds with the carry kept: sums of 64-bit words for the Internet checksum (RFC 1071, section 2).
INLINE __u64 add_carry(__u64 sum, __u64 word) {
  sum += word;
  return sum + (sum < word);
}

INLINE __u16 fold(__u64 sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return ~sum;
}

// ---- the filter -----------------------------------------------------------------------------------

// Turns a hello into the cookie for its source, in place: the reply is as long as the request.
INLINE void answer(void *data, struct packet *packet, struct header *header, __u64 cookie) {
  __u16 *ethernet = data;
#pragma unroll
  for (int i = 0; i < 3; i++) {
    __u16 to = ethernet[i];
    ethernet[i] = ethernet[i + 3];
    ethernet[i + 3] = to;
  }
  __u16 *ports = packet->transport;
  __u16 source_port = ports[0];
  ports[0] = ports[1];
  ports[1] = source_port;
  ports[3] = 0;
  header->start = MAGIC_AND_VERSION | KIND_COOKIE << 24;
  header->token = cookie;
  // All else in the header is zero but the counter. The sum is over the pseudo header too.
  __u64 sum = add_carry((__u64)SWAP16(HEADER_SIZE + UDP_SIZE) + (PROTOCOL_UDP << 8), header->counter);
  sum = add_carry(sum, cookie);
  sum = add_carry(sum, header->start);
  sum = add_carry(sum, *(__u64 *)packet->transport);
  if (packet->is_v6) {
    __u64 *address = packet->network + 8;
    __u64 first = address[0], second = address[1];
    address[0] = address[2], address[1] = address[3];
    address[2] = first, address[3] = second;
    *(__u8 *)(packet->network + 7) = 64;
    sum = add_carry(add_carry(sum, address[0]), address[1]);
    sum = add_carry(add_carry(sum, address[2]), address[3]);
  } else {
    __u32 *address = packet->network + 12;
    __u32 source = address[0];
    address[0] = address[1];
    address[1] = source;
    sum = add_carry(sum, address[0] | (__u64)address[1] << 32);
    *(__u8 *)(packet->network + 8) = 64;
    __u16 *words = packet->network;
    words[5] = 0;
    __u64 header_sum = 0;
#pragma unroll
    for (int i = 0; i < 10; i++)
      header_sum += words[i];
    words[5] = fold(header_sum);
  }
  __u16 checksum = fold(sum);
  ports[3] = checksum ? checksum : 0xffff; // zero means none (RFC 768)
}

// Judges a datagram to our port.
INLINE int judge_datagram(const struct control *control, struct packet *packet, void *data, void *end) {
  __u32 size = SWAP16(((__u16 *)packet->transport)[2]);
  if (UNLIKELY(size != packet->size || packet->transport + size > end))
    return DROP_LENGTH;
  if (UNLIKELY(size < UDP_SIZE + HEADER_SIZE))
    return DROP_TOO_SHORT;
  if (UNLIKELY(size > UDP_SIZE + PACKET_SIZE_MAX))
    return DROP_TOO_LONG;
  struct header *header = packet->transport + UDP_SIZE;
  if ((void *)(header + 1) > end)
    return DROP_LENGTH;
  __u32 start = header->start;
  if (UNLIKELY((start & 0xffffff) != MAGIC_AND_VERSION))
    return (start & 0xffff) == (MAGIC_AND_VERSION & 0xffff) ? DROP_VERSION : DROP_MAGIC;
  __u32 kind = start >> 24;
  if (UNLIKELY(kind != KIND_SUBMIT && kind != KIND_HELLO && kind != KIND_HANDSHAKE))
    return DROP_KIND;
  if (UNLIKELY(header->reserved))
    return DROP_RESERVED;
  if (UNLIKELY(*(__u16 *)packet->transport == 0))
    return DROP_SOURCE_INVALID;
  if (packet->is_v6) {
    __u64 *source = packet->network + 8;
    if (UNLIKELY(!(source[0] | source[1]) || (source[0] & 0xff) == 0xff))
      return DROP_SOURCE_INVALID;
  } else {
    __u32 source = *(__u32 *)(packet->network + 12);
    if (UNLIKELY(!source || source == 0xffffffff || (source & 0xf0) == 0xe0))
      return DROP_SOURCE_INVALID;
  }

  if (LIKELY(kind == KIND_SUBMIT)) {
    if (UNLIKELY(size < UDP_SIZE + SUBMIT_SIZE_MIN))
      return DROP_TOO_SHORT;
    __u32 index = header->session & INDEX_MASK, generation = header->session >> INDEX_BITS;
    if (UNLIKELY(!generation))
      return DROP_SESSION;
    __u64 token = header->token;
    if (UNLIKELY(!token))
      return DROP_TOKEN;
    // Generations start anywhere and lie close together: who guesses sessions stops here, in the cache, and
    // only one packet of 4,095 costs a look at the tokens of somebody else.
    __u32 place = index >> 2;
    const __u64 *generations = map_lookup(&GENERATIONS, &place);
    if (UNLIKELY(!generations))
      return DROP_SESSION;
    if (UNLIKELY((*(volatile const __u64 *)generations >> (index & 3) * 16 & 0xffff) != generation))
      return DROP_SESSION;
    __u32 slot = index * WINDOW + (header->counter & (WINDOW - 1));
    __u64 *word = map_lookup(&TOKENS, &slot);
    if (UNLIKELY(!word))
      return DROP_SESSION;
    if (*(volatile __u64 *)word != token)
      return DROP_TOKEN;
    // Of copies on several CPUs one passes.
    if (UNLIKELY(__sync_val_compare_and_swap(word, token, SPENT(token)) != token))
      return DROP_TOKEN;
    return PASS_SUBMIT;
  }

  if (UNLIKELY(header->session))
    return DROP_SESSION;
  if (UNLIKELY(header->tag[0] | header->tag[1]))
    return DROP_TOKEN;
  __u32 zero = 0;
  struct state *state = map_lookup(&STATE, &zero);
  if (!state)
    return DROP_REPLY_RATE; // never: an array has its one entry
  __u64 now = bucket_clock_ns(control);
  // What this CPU does for strangers has a budget, looked at before anything that costs; nobody else touches it.
  // Who sends wrong cookies takes nothing from those who ask for one.
  __u32 cpu = cpu_index() & (CPUS - 1);
  __u64 *budget = kind == KIND_HELLO ? &state->reply[cpu] : &state->check[cpu];
  __u64 spent = (*budget > now ? *budget : now) + control->reply.interval_ns;
  int is_over = spent - now > control->reply.depth_ns;

  if (kind == KIND_HELLO) {
    if (UNLIKELY(size != UDP_SIZE + HEADER_SIZE))
      return DROP_TOO_LONG;
    if (UNLIKELY(header->token))
      return DROP_TOKEN;
    if (is_over)
      return DROP_REPLY_RATE;
    __u64 hash = mix(control, host_of(packet));
    // One source's flood ends here and leaves the budget to others.
    if (!take(&state->hello[(hash >> 8) & (HELLO_SLOTS - 1)], &control->hello, now))
      return DROP_SOURCE_RATE;
    __u64 time = clock_ns(control);
    if (UNLIKELY(is_blocked(control, hash, time)))
      return DROP_SOURCE_DENIED;
    *budget = spent;
    if (UNLIKELY(!(control->flags & FLAG_ANSWER)))
      return PASS_HELLO;
    __u64 cookie = cookie_of(control, packet, (time >> EPOCH_SHIFT) & 0xffffffff);
    if (LIKELY(control->flags & FLAG_ENFORCE))
      answer(data, packet, header, cookie);
    return ANSWER_COOKIE;
  }

  if (UNLIKELY(size < UDP_SIZE + HANDSHAKE_SIZE))
    return DROP_TOO_SHORT;
  if (UNLIKELY(size > UDP_SIZE + HANDSHAKE_SIZE))
    return DROP_TOO_LONG;
  if (is_over)
    return DROP_REPLY_RATE;
  __u64 hash = mix(control, host_of(packet)), time = clock_ns(control);
  if (UNLIKELY(is_blocked(control, hash, time)))
    return DROP_SOURCE_DENIED;
  *budget = spent;
  __u64 epoch = time >> EPOCH_SHIFT, token = header->token;
  if (token != cookie_of(control, packet, epoch & 0xffffffff) && token != cookie_of(control, packet, (epoch - 1) & 0xffffffff))
    return DROP_COOKIE;
  if (!take(&state->handshake[(hash >> 8) & (HANDSHAKE_SLOTS - 1)], &control->handshake, now))
    return DROP_SOURCE_RATE;
  return PASS_HANDSHAKE;
}

// Judges a TCP packet to one of our ports: only attempts to connect have a budget.
INLINE int judge_connection(const struct control *control, struct packet *packet, void *end) {
  if (UNLIKELY(packet->transport + TCP_SIZE > end))
    return DROP_TOO_SHORT;
  if (LIKELY((*(__u8 *)(packet->transport + 13) & 0x12) != 0x02))
    return PASS_OTHER;
  __u32 zero = 0;
  struct state *state = map_lookup(&STATE, &zero);
  if (!state)
    return DROP_SYN_RATE;
  __u64 now = bucket_clock_ns(control);
  __u64 hash = mix(control, host_of(packet));
  if (is_peer(control, hash))
    return take(&state->peer_syn[(hash >> 8) & (PEER_SYN_SLOTS - 1)], &control->peer_syn, now) ? PASS_PEER_SYN : DROP_PEER_SYN_RATE;
  hash = mix(control, network_of(packet));
  return take(&state->syn[(hash >> 8) & (SYN_SLOTS - 1)], &control->syn, now) ? PASS_SYN : DROP_SYN_RATE;
}

// The ports of ours at a packet's destination, as bits; 0 where the address is not ours.
INLINE __u32 local_ports(const struct control *control, const struct packet *packet) {
  if (packet->is_v6) {
    __u64 first = *(__u64 *)(packet->network + 24), second = *(__u64 *)(packet->network + 32);
#pragma nounroll
    for (__u32 i = 0; i < LOCAL_MAX && i < control->local6_count; i++)
      if (control->local6[i].address[0] == first && control->local6[i].address[1] == second)
        return control->local6[i].ports;
  } else {
    __u32 address = *(__u32 *)(packet->network + 16);
#pragma nounroll
    for (__u32 i = 0; i < LOCAL_MAX && i < control->local4_count; i++)
      if (control->local4[i].address == address)
        return control->local4[i].ports;
  }
  return 0;
}

INLINE int is_extension(__u8 protocol) {
  return protocol == PROTOCOL_HOP_BY_HOP || protocol == PROTOCOL_ROUTING || protocol == PROTOCOL_FRAGMENT ||
         protocol == PROTOCOL_AUTHENTICATION || protocol == PROTOCOL_DESTINATION || protocol == PROTOCOL_MOBILITY ||
         protocol == PROTOCOL_HIP || protocol == PROTOCOL_SHIM6;
}

// Says whether a transport header's port is one of ours, as a bit of `ports`; 0 for none.
INLINE __u32 port_of(const struct control *control, __u8 protocol, __u16 port) {
  if (protocol == PROTOCOL_UDP)
    return port == control->udp_port ? PORT_UDP : 0;
  if (protocol != PROTOCOL_TCP)
    return 0;
  if (port == control->tcp_port[0])
    return PORT_TCP_FIRST;
  return port == control->tcp_port[1] ? PORT_TCP_SECOND : 0;
}

// Judges a packet whose transport header follows a plain IP header.
INLINE int judge_plain(const struct control *control, struct packet *packet, __u8 protocol, void *data, void *end) {
  if (packet->transport + UDP_SIZE > end)
    return PASS_OTHER;
  __u32 port = port_of(control, protocol, ((__u16 *)packet->transport)[1]);
  if (!port || !(local_ports(control, packet) & port))
    return PASS_OTHER;
  if (UNLIKELY(packet->is_cut))
    return DROP_FRAGMENT;
  if (port == PORT_UDP)
    return judge_datagram(control, packet, data, end);
  return judge_connection(control, packet, end);
}

// Judges a packet with IPv4 options or IPv6 extension headers: to one of our ports nothing honest comes so.
INLINE int judge_adorned(const struct control *control, struct packet *packet, __u8 protocol, void *end) {
  if (packet->transport + UDP_SIZE > end)
    return PASS_OTHER;
  __u32 port = port_of(control, protocol, ((__u16 *)packet->transport)[1]);
  return port && local_ports(control, packet) & port ? DROP_HEADER : PASS_OTHER;
}

INLINE int judge_ipv4(const struct control *control, void *data, void *network, void *end) {
  __u8 *bytes = network;
  if (network + IPV4_SIZE > end)
    return PASS_OTHER;
  __u32 header_size = (bytes[0] & 15) * 4;
  __u16 fragment = SWAP16(*(__u16 *)(network + 6));
  __u32 total = SWAP16(*(__u16 *)(network + 2));
  // Of a later fragment nobody can say whose it is, and the kernel will not assemble it without its first.
  if (bytes[0] >> 4 != 4 || header_size < IPV4_SIZE || (fragment & 0x1fff) || total < header_size)
    return PASS_OTHER;
  struct packet packet = {.network = network, .size = total - header_size, .is_cut = (fragment & 0x2000) != 0};
  if (UNLIKELY(header_size != IPV4_SIZE)) {
    packet.transport = network + header_size;
    return judge_adorned(control, &packet, bytes[9], end);
  }
  packet.transport = network + IPV4_SIZE;
  return judge_plain(control, &packet, bytes[9], data, end);
}

INLINE int judge_ipv6(const struct control *control, void *data, void *network, void *end) {
  __u8 *bytes = network;
  if (network + IPV6_SIZE > end || bytes[0] >> 4 != 6)
    return PASS_OTHER;
  struct packet packet = {.network = network, .is_v6 = 1, .transport = network + IPV6_SIZE};
  packet.size = SWAP16(*(__u16 *)(network + 4));
  __u8 protocol = bytes[6];
  if (LIKELY(!is_extension(protocol)))
    return judge_plain(control, &packet, protocol, data, end);
  void *next = packet.transport;
#pragma nounroll
  for (int i = 0; i < EXTENSIONS_MAX && is_extension(protocol); i++) {
    if (next + 8 > end)
      return PASS_OTHER;
    __u8 *extension = next;
    __u32 size = (extension[1] + 1) * 8;
    if (protocol == PROTOCOL_FRAGMENT) {
      if (SWAP16(*(__u16 *)(next + 2)) & 0xfff8)
        return PASS_OTHER;
      size = 8;
    } else if (protocol == PROTOCOL_AUTHENTICATION) {
      size = (extension[1] + 2) * 4;
    }
    protocol = extension[0];
    next += size;
  }
  // More headers than a host must take.
  if (UNLIKELY(is_extension(protocol)))
    return local_ports(control, &packet) ? DROP_HEADER : PASS_OTHER;
  packet.transport = next;
  return judge_adorned(control, &packet, protocol, end);
}

INLINE int judge(const struct control *control, void *data, void *end) {
  void *network = data + ETHERNET_SIZE;
  if (network > end)
    return PASS_OTHER;
  __u16 type = *(__u16 *)(data + 12);
#pragma unroll
  for (int i = 0; i < 2; i++) {
    if (LIKELY(type != ETHERTYPE_VLAN && type != ETHERTYPE_QINQ))
      break;
    if (network + VLAN_SIZE > end)
      return PASS_OTHER;
    type = *(__u16 *)(network + 2);
    network += VLAN_SIZE;
  }
  if (LIKELY(type == ETHERTYPE_IPV4))
    return judge_ipv4(control, data, network, end);
  if (type == ETHERTYPE_IPV6)
    return judge_ipv6(control, data, network, end);
  return PASS_OTHER;
}

// Judges a frame, counts the verdict, and says what the driver does with it.
INLINE int filter(struct xdp_md *context) {
  void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
  __u32 zero = 0, cpu = cpu_index();
  const struct control *control = map_lookup(&CONTROL, &zero);
  if (!control)
    return XDP_PASS;
  int verdict = judge(control, data, end);
  struct counters *counters = map_lookup(&COUNTS, &cpu);
  if (LIKELY(counters))
    counters->count[verdict & (COUNTERS - 1)] += 1; // this CPU's own
  __u32 flags = control->flags;
  if (LIKELY(flags & FLAG_ENFORCE)) {
    if (verdict >= DROP)
      return XDP_DROP;
    if (verdict == ANSWER_COOKIE)
      return XDP_TX;
    if ((verdict == PASS_SUBMIT || verdict == PASS_HANDSHAKE || verdict == PASS_HELLO) && flags & FLAG_REDIRECT)
      return redirect_map(&RINGS, context->rx_queue_index, XDP_PASS);
  }
  return XDP_PASS;
}

#endif
