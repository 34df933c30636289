ramet_fuzz_target(working_set DEPS lib/store vmm/memory vmm/state)
