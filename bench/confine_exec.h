// What confinement costs commands: filters on and off, in this process and in a helper, with a
// Debian guest, alternating in one run.
//
// Thread rule: one thread.
#ifndef RAMET_BENCH_CONFINE_EXEC_H_
#define RAMET_BENCH_CONFINE_EXEC_H_

#include <vector>

#include "bench/linux_guest.h"
#include "bench/samples.h"
#include "vmm/base/status.h"

namespace ramet::bench {

// `forks` of each mode; several commands in each.
StatusOr<std::vector<Row>> measure_exec(const LinuxGuest& guest, int forks);

}  // namespace ramet::bench

#endif  // RAMET_BENCH_CONFINE_EXEC_H_
