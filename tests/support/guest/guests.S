// The hand-made guests of the kvm tier: a few instructions each, in 64-bit mode at CPL 0, position-independent, loaded at
// kGuestCode with the machine of tests/support/guest_code.h around them. Each program is a range of .rodata between
// ramet_guest_NAME and ramet_guest_NAME_end; ramet_guest_NAME_irq, where there is one, is the handler of every vector.
//
// Only instructions that also an interpreting KVM knows: no SSE, no SYSCALL, no INT3.

#define PORT_DATA 0x500   // kPortData
#define PORT_DONE 0x501   // kPortDone
#define PORT_IRQ 0x502    // kPortIrq
#define PORT_STRING 0x503 // kPortString
#define PORT_ASK 0x504    // kPortAsk
#define DATA 0x200000     // kGuestData
#define MMIO 0xd0000000   // kGuestMmio
#define LAPIC 0xfee00000
#define IOAPIC 0xfec00000
#define STRING_BYTES 3000 // kStringBytes

  .section .note.GNU-stack, "", @progbits
  .section .rodata
  .code64

  .macro program name
  .global ramet_guest_\name
  .hidden ramet_guest_\name
  .balign 16
ramet_guest_\name:
  .endm
  .macro program_end name
  .global ramet_guest_\name\()_end
  .hidden ramet_guest_\name\()_end
ramet_guest_\name\()_end:
  .endm
  .macro handler name
  .global ramet_guest_\name\()_irq
  .hidden ramet_guest_\name\()_irq
ramet_guest_\name\()_irq:
  .endm
  .macro say port
  movw $\port, %dx
  outl %eax, %dx
  .endm
  .macro stop
  movl $1, %eax
  say PORT_DONE
9:
  cli
  hlt
  jmp 9b
  .endm
  .macro enable_lapic
  movl $LAPIC, %edi
  movl $0x1ff, 0xf0(%rdi)   // spurious-interrupt vector 0xff, APIC on
  .endm

// Every size of port access, then strings of bytes out of and into memory.
  program pio
  movw $PORT_DATA, %dx
  movl $0x44332211, %eax
  outb %al, %dx
  outw %ax, %dx
  outl %eax, %dx
  xorl %eax, %eax
  inb %dx, %al
  movl %eax, DATA
  inw %dx, %ax
  movl %eax, DATA + 4
  inl %dx, %eax
  movl %eax, DATA + 8
  movw $PORT_STRING, %dx
  cld
  movl $DATA + 0x1000, %esi
  movl $STRING_BYTES, %ecx
  rep outsb
  movl $DATA + 0x2000, %edi
  movl $STRING_BYTES, %ecx
  rep insb
  stop
  program_end pio

// Every size of memory-mapped access, and one that crosses a page: two accesses to the bus.
  program mmio
  movl $MMIO, %edi
  movabsq $0x8877665544332211, %rax
  movb %al, (%rdi)
  movw %ax, 8(%rdi)
  movl %eax, 16(%rdi)
  movq %rax, 24(%rdi)
  movq %rax, 0xffc(%rdi)
  xorl %eax, %eax
  movb (%rdi), %al
  movq %rax, DATA
  xorl %eax, %eax
  movw 8(%rdi), %ax
  movq %rax, DATA + 8
  movl 16(%rdi), %eax
  movq %rax, DATA + 16
  movq 24(%rdi), %rax
  movq %rax, DATA + 24
  movq 0xffc(%rdi), %rax
  movq %rax, DATA + 32
  stop
  program_end mmio

// Counts in memory for ever. The value lives in rbx, so that a lost or doubled register state shows.
  program count
1:
  incq %rbx
  movq %rbx, DATA
  jmp 1b
  program_end count

// Numbers go out, and every number that comes in must be the one that just went out; then a string, and a store that crosses
// a page. So no access may be lost, doubled or torn by a pause.
  program stream
  xorl %ebx, %ebx
  cld
1:
  incl %ebx
  movl %ebx, %eax
  say PORT_DATA
  inl %dx, %eax
  cmpl %ebx, %eax
  jne 8f
  movl $DATA + 0x1000, %esi
  movl $16, %ecx
  movw $PORT_STRING, %dx
  rep outsb
  movl %ebx, %eax
  shlq $32, %rax
  orq %rbx, %rax
  movl $MMIO, %edi
  movq %rax, 0xffc(%rdi)
  movq 0xffc(%rdi), %rcx
  cmpq %rax, %rcx
  je 1b
8:
  stop
  program_end stream

// One port write, then nothing: the first thing that a fork does.
  program hello
1:
  movl $0x600d, %eax
  say PORT_DATA
  jmp 1b
  program_end hello

  program halt
  stop
  program_end halt

// No IDT: the exception is a triple fault.
  program triple_fault
  ud2
  program_end triple_fault

// Programs IOAPIC pin ebp with vector 0x40 for LAPIC 0, with the mask bit of r12d; says so; then sleeps. Asks the host each
// time it wakes; an answer of 1 unmasks the pin.
  program irq
  enable_lapic
  movl $IOAPIC, %esi
  leal 0x11(%rbp, %rbp), %eax
  movl %eax, (%rsi)
  movl $0, 0x10(%rsi)
  leal 0x10(%rbp, %rbp), %eax
  movl %eax, (%rsi)
  movl $0x40, %eax
  orl %r12d, %eax
  movl %eax, 0x10(%rsi)
  movl $1, %eax
  say PORT_DATA
1:
  movw $PORT_ASK, %dx
  inl %dx, %eax
  cmpl $1, %eax
  jne 2f
  leal 0x10(%rbp, %rbp), %eax
  movl %eax, (%rsi)
  movl $0x40, 0x10(%rsi)
2:
  cmpl $2, %eax
  jne 3f
  sti
  hlt
  cli
  jmp 1b
3:
  sti
  movl $64, %ecx
4:
  decl %ecx
  jnz 4b
  cli
  jmp 1b
  handler irq
  pushq %rax
  pushq %rdx
  incl %r13d
  movl %r13d, %eax
  say PORT_IRQ
  movl $LAPIC, %edx
  movl $0, 0xb0(%rdx)       // EOI
  popq %rdx
  popq %rax
  iretq
  program_end irq

// Arms the TSC-deadline timer rbp cycles ahead, says so, and sleeps until its interrupt.
  program timer
  enable_lapic
  movl $0x40041, 0x320(%rdi) // LVT timer: vector 0x41, TSC-deadline
  rdtsc
  shlq $32, %rdx
  orq %rdx, %rax
  addq %rbp, %rax
  movq %rax, %rdx
  shrq $32, %rdx
  movl $0x6e0, %ecx
  wrmsr
  movl $1, %eax
  say PORT_DATA
1:
  sti
  hlt
  cli
  jmp 1b
  handler timer
  pushq %rax
  pushq %rdx
  rdtsc
  shlq $32, %rdx
  orq %rdx, %rax
  movq %rax, DATA
  movl $1, %eax
  say PORT_IRQ
  movl $LAPIC, %edx
  movl $0, 0xb0(%rdx)
  popq %rdx
  popq %rax
  iretq
  program_end timer

// Sends INIT and SIPI for page 0x6000 (kGuestApCode) to LAPIC 1, then counts.
  program sipi
  enable_lapic
  movl $1 << 24, 0x310(%rdi)
  movl $0x4500, 0x300(%rdi)
  movl $1 << 24, 0x310(%rdi)
  movl $0x4606, 0x300(%rdi)
  movl $1, %eax
  say PORT_DATA
1:
  incq %rbx
  movq %rbx, DATA
  jmp 1b
  program_end sipi

// Reads the clocks and says so, over and over: DATA holds the TSC.
  program clock
1:
  rdtsc
  shlq $32, %rdx
  orq %rdx, %rax
  movq %rax, DATA
  movl $1, %eax
  say PORT_DATA
  jmp 1b
  program_end clock

// Writes to every page from DATA + 0x1000 to the address in DATA, says in DATA + 8 how far it is, and then only counts.
  program dirty
  movl $DATA, %esi
  leaq 0x1000(%rsi), %rdi
1:
  cmpq (%rsi), %rdi
  jae 2f
  movq %rdi, (%rdi)
  movq %rdi, 8(%rsi)
  addq $4096, %rdi
  jmp 1b
2:
  incq %rbx
  jmp 2b
  program_end dirty

// What a second processor runs after SIPI, in real mode: 64-bit code never sees it.
  .code16
  program ap
1:
  movw $PORT_IRQ, %dx
  movl $0xa9, %eax
  outl %eax, %dx
  hlt
  jmp 1b
  program_end ap
