#include "tests/system/hostile/programs.h"

namespace ramet::testing {
namespace {

using std::chrono::seconds;

// The shell of the guest is dash; tools are coreutils, util-linux and Python.
// Ports are the hand-made guests' (tests/guests/bus.cc): Debian's cloud kernels have no /dev/port,
// and an emulated processor with SVM lets no user program at them after iopl(2).
constexpr char kForkBomb[] = "bomb() { bomb | bomb & }; bomb; sleep 1000";
constexpr char kMemoryBomb[] =
    "python3 -c 'x = []\nwhile True: x.append(bytearray(b\"y\" * (1 << 20)))'";
constexpr char kDiskFiller[] = "cat /dev/zero >/root/full; sync; rm /root/full; exit 3";
constexpr char kByteReader[] = "python3 -c 'import os\nwhile os.read(0, 1): pass'";
constexpr char kByteWriter[] = "python3 -c 'import os\nfor i in range(5000): os.write(1, b\"x\")'";
constexpr char kDeafToSignals[] = "trap '' TERM INT HUP; while :; do sleep 1; done";
constexpr char kHeldOutput[] = "sleep 1000 & echo done";
// Of slots without a device: the kernel lets nobody at those that have a driver.
constexpr char kDeviceMemory[] =
    "test -e /dev/mem || mknod /dev/mem c 1 1\n"
    "python3 -c 'import mmap, os\n"
    "f = os.open(\"/dev/mem\", os.O_RDWR | os.O_SYNC)\n"
    "m = mmap.mmap(f, 0x5000, offset=0xd0003000)\n"
    "for i in range(0, 0x5000, 4): m[i:i + 4] = b\"\\xa5\\x5a\\xff\\x00\"'";
constexpr char kPowerOff[] =
    "mount -t proc p /proc 2>/dev/null; echo o >/proc/sysrq-trigger; sleep 60";
constexpr char kReboot[] =
    "mount -t proc p /proc 2>/dev/null; echo b >/proc/sysrq-trigger; sleep 60";
constexpr char kPanic[] =
    "mount -t proc p /proc 2>/dev/null; echo c >/proc/sysrq-trigger; sleep 60";
constexpr char kUnbind[] =
    "mount -t sysfs s /sys 2>/dev/null\n"
    "for d in /sys/bus/virtio/drivers/*/virtio*; do echo ${d##*/} >${d%/*}/unbind; done; sleep 60";
constexpr char kUnload[] =
    "python3 -c 'import ctypes\n"
    "c = ctypes.CDLL(None)\n"
    "for m in (b\"vmw_vsock_virtio_transport\", b\"virtio_blk\", b\"virtio_mmio\"):\n"
    "  print(c.syscall(176, m, 0o4000 | 0o1000))'";
constexpr char kErrorFlood[] = "cat /dev/zero >&2";
constexpr char kOutputFlood[] = "yes";
constexpr char kConsoleFlood[] = "yes xxxxxxxxxxxxxxxx >/dev/console";
constexpr char kKillsAll[] = "kill -9 -1; exit 5";

// Python takes seconds to start on an emulated processor that others use too.
constexpr seconds kPythonStarts(12);

}  // namespace

const std::vector<HostileProgram>& hostile_programs() {
  using enum Ending;
  static const std::vector<HostileProgram> kAll = {
      {.name = "is a fork bomb",
       .script = kForkBomb,
       .endings = {kTimedOut, kHung},
       .timeout = seconds(4),
       .answers_after = false},
      {.name = "is a memory bomb",
       .script = kMemoryBomb,
       .endings = {kExited},
       .exit_code = 137,
       .timeout = seconds(60)},
      {.name = "fills its disk",
       .script = kDiskFiller,
       .endings = {kExited},
       .exit_code = 3,
       .timeout = seconds(90)},
      {.name = "reads its input byte by byte",
       .script = kByteReader,
       .endings = {kTimedOut},
       .timeout = seconds(3),
       .input = std::string(8 << 20, 'i')},
      {.name = "writes its output byte by byte", .script = kByteWriter, .endings = {kExited}},
      {.name = "ignores signals",
       .script = kDeafToSignals,
       .endings = {kTimedOut},
       .timeout = seconds(1)},
      {.name = "leaves its output open behind it", .script = kHeldOutput, .endings = {kExited}},
      {.name = "powers off", .script = kPowerOff, .endings = {kDied}},
      {.name = "writes over device memory", .script = kDeviceMemory, .endings = {kExited}},
      {.name = "reboots", .script = kReboot, .endings = {kDied}},
      {.name = "panics", .script = kPanic, .endings = {kDied}},
      {.name = "unbinds its drivers",
       .script = kUnbind,
       .endings = {kHung, kCut, kDied},
       .timeout = kPythonStarts,
       .answers_after = false},
      {.name = "unloads its drivers",
       .script = kUnload,
       .endings = {kHung, kCut, kDied},
       .timeout = kPythonStarts,
       .answers_after = false},
      {.name = "floods stderr",
       .script = kErrorFlood,
       .endings = {kTimedOut},
       .timeout = seconds(3)},
      {.name = "floods stdout",
       .script = kOutputFlood,
       .endings = {kTimedOut},
       .timeout = seconds(3)},
      {.name = "floods its console",
       .script = kConsoleFlood,
       .endings = {kTimedOut, kHung},
       .timeout = seconds(3)},
      {.name = "kills every process", .script = kKillsAll, .endings = {kExited}, .exit_code = 5},
  };
  return kAll;
}

}  // namespace ramet::testing
