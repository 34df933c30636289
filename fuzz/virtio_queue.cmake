ramet_fuzz_target(virtio_queue DEPS devices/virtio)
