// What stands behind the public handles. Only lib/api includes this.
//
// Thread rule: as the public classes.
#ifndef RAMET_LIB_API_IMPL_H_
#define RAMET_LIB_API_IMPL_H_

#include <memory>

#include <ramet/engine.h>
#include <ramet/sandbox.h>
#include <ramet/template.h>

#include "lib/core/engine.h"
#include "lib/core/sandbox_machine.h"
#include "lib/core/template_data.h"
#include "lib/fork/fork.h"

namespace sandbox {

class Engine::Impl {
 public:
  std::shared_ptr<ramet::Engine> engine;
};

class Template::Impl {
 public:
  std::shared_ptr<const ramet::TemplateData> data;
  std::shared_ptr<Engine> engine;
  // After the engine, whose threads and processes they need.
  std::shared_ptr<ramet::ShellPool> shells;
  std::shared_ptr<ramet::helper::LearnedSet> learned =
      std::make_shared<ramet::helper::LearnedSet>();
  TemplateInfo info;
};

// A template's, of what was built, loaded or branched.
std::shared_ptr<const Template::Impl> make_template_impl(
    std::shared_ptr<const ramet::TemplateData> data, std::shared_ptr<Engine> engine);

class Sandbox::Impl {
 public:
  std::shared_ptr<Engine> engine;
  std::shared_ptr<const ramet::TemplateData> from;
  ramet::ForkSpec spec;           // what a reset forks again
  uint64_t max_output_bytes = 0;  // of each command; 0: no limit
  std::unique_ptr<ramet::SandboxMachine> machine;
};

}  // namespace sandbox

#endif  // RAMET_LIB_API_IMPL_H_
