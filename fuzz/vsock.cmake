ramet_fuzz_target(vsock DEPS devices/vsock)
