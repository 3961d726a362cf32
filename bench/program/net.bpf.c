// What the network benchmarks run in the kernel: the filter's own text between programs that do nothing, that
// do as little as a filter can, and that make the packets.
//
// One frame has one shape here: Ethernet, IPv4 without options, UDP, the header of a datagram.
//   0 Ethernet 14 | 14 IPv4 20 | 34 UDP 8 | 42 header 48 | 90 body
#define SPENT(token) (token) // one prepared packet is accepted as often as it is measured
#include "../../net-ebpf/program/filter.h"

static __u32 (*const random)(void) = (void *)BPF_FUNC_get_prandom_u32;
static __u64 (*const clock_exact_ns)(void) = (void *)BPF_FUNC_ktime_get_ns;
static long (*const redirect)(__u32 interface, __u64 flags) = (void *)BPF_FUNC_redirect;

#define SESSIONS 4096     // over which random packets are spread
#define CLIENT 0x02004d0a // 10.77.0.2, where all honest packets come from
#define HEADER_AT (ETHERNET_SIZE + IPV4_SIZE + UDP_SIZE)

// ---- nothing, and next to nothing -----------------------------------------------------------------

SECTION("xdp") int empty_drop(struct xdp_md *context) {
  (void)context;
  return XDP_DROP;
}

SECTION("xdp") int empty_pass(struct xdp_md *context) {
  (void)context;
  return XDP_PASS;
}

// Knows beforehand who is honest: one load and one comparison, beside the bounds that the kernel demands.
SECTION("xdp") int ideal(struct xdp_md *context) {
  void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
  if (data + ETHERNET_SIZE + IPV4_SIZE > end)
    return XDP_PASS;
  return *(__u32 *)(data + 26) == CLIENT ? XDP_PASS : XDP_DROP;
}

// Hands every datagram to our port to the AF_XDP socket of its queue.
SECTION("xdp") int to_ring(struct xdp_md *context) {
  void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
  __u32 zero = 0;
  const struct control *control = map_lookup(&CONTROL, &zero);
  if (!control || data + HEADER_AT > end)
    return XDP_PASS;
  if (*(__u16 *)(data + 12) != ETHERTYPE_IPV4 || *(__u8 *)(data + 23) != PROTOCOL_UDP)
    return XDP_PASS;
  if (*(__u16 *)(data + 36) != control->udp_port)
    return XDP_PASS;
  return redirect_map(&RINGS, context->rx_queue_index, XDP_PASS);
}

// ---- the filter on packets that change from run to run --------------------------------------------

enum change {
  CHANGE_SESSION,      // another of 4,096 sessions, the same counter: a word from another page
  CHANGE_SLOT,         // another session and another counter: any of four million words
  CHANGE_SOURCE,       // another source
  CHANGE_HELLO,        // a cookie was written over the hello that asked for it: makes a hello of it again
  CHANGE_HELLO_SOURCE, // the same from another source
  CHANGE_GENERATION,   // another session, another counter, a generation that is not the session's
};

struct bpf_map_def SECTION("maps") CHANGE = {
    .type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};

INLINE __u32 anywhere(__u32 word) {
  return (word & 0x00ffffff) << 8 | 11; // 11.0.0.0/8
}

INLINE void make_hello(void *data, struct header *header, __u32 from) {
  *(__u32 *)(data + 26) = from;
  *(__u32 *)(data + 30) = 0x01004d0a;            // to 10.77.0.1
  *(__u32 *)(data + 34) = 0x2823u << 16 | 0x0010; // port 9000
  header->start = MAGIC_AND_VERSION | KIND_HELLO << 24;
  header->token = 0;
}

// A repeated run keeps its frame, and this changes it between two runs.
INLINE void change(struct xdp_md *context) {
  void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
  struct header *header = data + HEADER_AT;
  __u32 zero = 0;
  const __u32 *how = map_lookup(&CHANGE, &zero);
  if (!how || (void *)(header + 1) > end)
    return;
  __u32 word = *how == CHANGE_HELLO ? 0 : random();
  if (*how == CHANGE_SESSION) {
    header->session = (word & (SESSIONS - 1)) | 1u << 20;
  } else if (*how == CHANGE_SLOT) {
    header->session = (word & (SESSIONS - 1)) | 1u << 20;
    header->counter = (word >> 12) & (WINDOW - 1);
  } else if (*how == CHANGE_GENERATION) {
    header->session = (word & (SESSIONS - 1)) | (word >> 20 | 2) << 20; // all generations are 1
    header->counter = random() & (WINDOW - 1);
  } else if (*how == CHANGE_SOURCE) {
    *(__u32 *)(data + 26) = anywhere(word);
  } else {
    make_hello(data, header, *how == CHANGE_HELLO ? CLIENT : anywhere(word));
  }
}

SECTION("xdp") int same_filter(struct xdp_md *context) {
  return filter(context);
}

SECTION("xdp") int change_filter(struct xdp_md *context) {
  change(context);
  return filter(context);
}

// What the changes alone cost, for subtraction.
SECTION("xdp") int change_only(struct xdp_md *context) {
  change(context);
  return XDP_PASS;
}

// ---- the flood ------------------------------------------------------------------------------------
//
// Runs over live frames, which leave through an interface and come back with what was last written into them,
// so that every field but the body is written each time. Attack and valid packets are one stream: both meet the
// receive ring as full as the other left it, as on a network card.

enum attack {
  ATTACK_NONE,
  ATTACK_GARBAGE,
  ATTACK_FORGED,  // any session in its right generation, one of four counters
  ATTACK_SPOOFED, // hellos from anywhere
  ATTACK_REPLAY,
  ATTACK_HELLO,   // hellos from four neighbours
  ATTACK_COOKIE,  // handshakes from anywhere
  ATTACK_SLOT,    // any session, any generation, any counter
};

struct generator {
  __u64 ethernet[2]; // the first 14 bytes of a frame
  __u64 started_ns, now_ns;
  __u64 valid_due_ns, valid_interval_ns;
  __u64 valid_sent, valid_count;
  __u64 attack_sent, runs;
  __u32 interface, attack; // where frames leave, an `enum attack`
  __u32 source, target;    // addresses as on the wire: the attacker's, the validator's
  __u32 ports, size;       // source and destination port as on the wire; bytes of a valid UDP packet
  __u64 duration_ns, ended;
  __u64 attack_rate; // packets a second; what is beyond it is not sent
};

#define VALID_MAX 262144
#define REPLAYED 64 // so many old packets are sent again and again

struct bpf_map_def SECTION("maps") GENERATOR = {
    .type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = sizeof(struct generator), .max_entries = 1};
struct bpf_map_def SECTION("maps") VALID = {
    .type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = sizeof(struct header), .max_entries = VALID_MAX};

INLINE void write_frame(void *data, const struct generator *generator, __u32 from, __u32 size) {
  __u16 *ip = data + ETHERNET_SIZE;
  *(__u64 *)data = generator->ethernet[0];
  *(__u32 *)(data + 8) = generator->ethernet[1];
  *(__u16 *)(data + 12) = generator->ethernet[1] >> 32;
  ip[0] = 0x0045;
  ip[1] = SWAP16(IPV4_SIZE + size);
  *(__u32 *)(ip + 2) = 0x00000100;
  ip[4] = 64 | PROTOCOL_UDP << 8;
  *(__u32 *)(ip + 6) = from;
  *(__u32 *)(ip + 8) = generator->target;
  __u32 sum = 0x0045 + ip[1] + 0x0100 + ip[4] + (from >> 16) + (from & 0xffff) + (generator->target >> 16) +
              (generator->target & 0xffff);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  ip[5] = ~sum;
  *(__u32 *)(ip + 10) = generator->ports;
  *(__u32 *)(ip + 12) = SWAP16(size); // and no checksum (RFC 768)
}

// Writes an attack; `word` is random.
INLINE int write_attack(void *data, struct header *header, const struct generator *generator, __u32 word) {
  __u64 wide = word * 0x9e3779b97f4a7c15ull | 1;
  __u32 attack = generator->attack, size = generator->size;
  struct header made = {0};
  if (attack == ATTACK_GARBAGE) {
    write_frame(data, generator, generator->source, size);
    made.start = wide & ~1ull;
    made.session = wide >> 32;
    made.counter = word;
    made.token = wide;
  } else if (attack == ATTACK_FORGED || attack == ATTACK_SLOT) {
    write_frame(data, generator, generator->source, size);
    made.start = MAGIC_AND_VERSION | KIND_SUBMIT << 24;
    made.session = (word & (SESSIONS - 1)) | 1u << 20;
    made.counter = 1 + ((word >> 12) & 3);
    if (attack == ATTACK_SLOT) {
      made.session = (word & (SESSIONS - 1)) | (word >> 20) << 20;
      made.counter = wide >> 32;
    }
    made.token = wide;
    made.tag[0] = wide;
    made.tag[1] = wide;
  } else if (attack == ATTACK_REPLAY) {
    __u32 old = word & (REPLAYED - 1);
    const struct header *sent = map_lookup(&VALID, &old);
    if (!sent || generator->valid_sent < REPLAYED)
      return 0;
    write_frame(data, generator, generator->source, size);
    made = *sent;
  } else if (attack == ATTACK_SPOOFED || attack == ATTACK_HELLO) {
    __u32 few = generator->source + (word & 3) * 0x01000000; // four neighbours
    __u32 from = attack == ATTACK_SPOOFED ? anywhere(word) : few;
    write_frame(data, generator, from, UDP_SIZE + HEADER_SIZE);
    made.start = MAGIC_AND_VERSION | KIND_HELLO << 24;
    made.counter = wide;
  } else if (attack == ATTACK_COOKIE) {
    write_frame(data, generator, anywhere(word), UDP_SIZE + HANDSHAKE_SIZE);
    made.start = MAGIC_AND_VERSION | KIND_HANDSHAKE << 24;
    made.counter = word;
    made.token = wide;
  } else {
    return 0;
  }
  *header = made;
  return 1;
}

SECTION("xdp") int generate(struct xdp_md *context) {
  void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
  __u32 zero = 0;
  struct generator *generator = map_lookup(&GENERATOR, &zero);
  struct header *header = data + HEADER_AT;
  if (!generator || (void *)(header + 1) > end)
    return XDP_DROP;
  // What is left of the runs that were asked for is soon over.
  if (generator->ended)
    return XDP_DROP;
  // The clock costs as much as a packet: it is read for every 16th, which take 4 us together.
  if (!(generator->runs++ & 15)) {
    generator->now_ns = clock_exact_ns();
    if (!generator->started_ns) {
      generator->started_ns = generator->now_ns;
      generator->valid_due_ns = generator->now_ns;
    }
    generator->ended = generator->now_ns - generator->started_ns > generator->duration_ns;
  }
  __u64 now = generator->now_ns;
  if (now >= generator->valid_due_ns && generator->valid_sent < generator->valid_count) {
    __u32 place = generator->valid_sent;
    const struct header *prepared = map_lookup(&VALID, &place);
    if (!prepared)
      return XDP_DROP;
    generator->valid_sent++;
    // What a pause made late is not sent in one burst.
    generator->valid_due_ns += generator->valid_interval_ns;
    if (generator->valid_due_ns + 2 * generator->valid_interval_ns < now)
      generator->valid_due_ns = now;
    write_frame(data, generator, CLIENT, generator->size);
    *header = *prepared;
    return redirect(generator->interface, 0);
  }
  if (generator->attack_sent * 1000000000ull >= (now - generator->started_ns) * generator->attack_rate)
    return XDP_DROP;
  if (!write_attack(data, header, generator, random()))
    return XDP_DROP;
  generator->attack_sent++;
  return redirect(generator->interface, 0);
}

char LICENSE[] SECTION("license") = "Dual MIT/GPL";
