// The program of README.md: a template from an image, one fork of it, one command in the fork.
#include <cstdio>

#include <ramet/sandbox.h>

int main(int argc, char** argv) {
  auto t = sandbox::Template::build(
      {.kernel = argc > 2 ? sandbox::Kernel::from_tree(argv[2]) : sandbox::Kernel::host_default(),
       .rootfs = argc > 1 ? argv[1] : "python.img",
       .warmup = {"python3", "-c", "import json"}});
  if (!t.ok()) return std::fprintf(stderr, "%s\n", t.status().ToString().c_str()), 1;

  auto box = sandbox::fork(*t);
  if (!box.ok()) return std::fprintf(stderr, "%s\n", box.status().ToString().c_str()), 1;

  auto r = box->exec({"python3", "-c", "print(2 + 2)"}, {.timeout = std::chrono::seconds(2)});
  if (!r.ok()) return std::fprintf(stderr, "%s\n", r.status().ToString().c_str()), 1;
  std::printf("exit %d: %s", r->exit_code, r->stdout_data.c_str());
}
