// The XDP program. All of it stands in filter.h, so that benchmarks can measure the same text.
#define SPENT(token) 0 // a spent slot holds no token
#include "filter.h"

char LICENSE[] SECTION("license") = "Dual MIT/GPL";

SECTION("xdp") int althing(struct xdp_md *context) {
  return filter(context);
}
