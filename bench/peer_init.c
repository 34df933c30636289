// The init of the guest that bench/peer_qemu.py boots in QEMU: says "ready" on the first serial
// port, then sends back every line that comes. Static, alone in its initramfs; it never ends.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

static void say(int port, const char* text, size_t bytes) {
  while (bytes > 0) {
    const ssize_t sent = write(port, text, bytes);
    if (sent < 0) {
      return;
    }
    text += sent;
    bytes -= (size_t)sent;
  }
}

// A byte interrupts when it comes, instead of after the port's time-out of four characters.
static void interrupt_at_once(void) {
  mkdir("/sys", 0755);
  if (mount("sys", "/sys", "sysfs", 0, 0) != 0) {
    return;
  }
  const int file = open("/sys/class/tty/ttyS0/rx_trig_bytes", O_WRONLY);
  if (file >= 0) {
    say(file, "1", 1);
    close(file);
  }
}

int main(void) {
  const int port = open("/dev/ttyS0", O_RDWR | O_NOCTTY);
  struct termios raw;
  if (port < 0 || tcgetattr(port, &raw) != 0) {
    return 1;
  }
  cfmakeraw(&raw);
  cfsetspeed(&raw, B115200);
  if (tcsetattr(port, TCSANOW, &raw) != 0) {
    return 1;
  }
  interrupt_at_once();
  say(port, "ready\n", 6);
  char bytes[64];
  for (;;) {
    const ssize_t count = read(port, bytes, sizeof bytes);
    if (count > 0) {
      say(port, bytes, (size_t)count);
    }
  }
}
