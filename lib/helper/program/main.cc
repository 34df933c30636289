// ramet-helper: a sandbox's machine in a process of its own, or a process for many of them.
// libramet carries it and starts it; it is of no use from a shell.
#include "lib/helper/program/helper_main.h"

int main(int argc, char** argv) {
  return ramet::helper::helper_main(argc > 1 ? argv[1] : "", argc > 2 ? argv[2] : "");
}
