/* The Paravane hypercall ABI. Generated from the Rust crate pv-abi: do not edit.
 * SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef PARAVANE_H
#define PARAVANE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define PV_ASSERT(condition) static_assert(condition, #condition)
#else
#define PV_ASSERT(condition) _Static_assert(condition, #condition)
#endif

/* ABI version and discovery by CPUID. */
#define PV_VERSION UINT64_C(0x1)
#define PV_CPUID_FIRST_BASE UINT64_C(0x40000000)
#define PV_CPUID_BASE_STEP UINT64_C(0x100)
#define PV_CPUID_BASES UINT64_C(256)
#define PV_CPUID_SIGNATURE_EBX UINT64_C(0x61726150)
#define PV_CPUID_SIGNATURE_ECX UINT64_C(0x656e6176)
#define PV_CPUID_SIGNATURE_EDX UINT64_C(0x0)
#define PV_LEAF_SIGNATURE UINT64_C(0)
#define PV_LEAF_VERSION UINT64_C(1)
#define PV_LEAF_EXTENSIONS UINT64_C(2)
#define PV_LEAF_RECOMMENDATIONS UINT64_C(3)
#define PV_LEAF_LIMITS UINT64_C(4)
#define PV_LEAF_FREQUENCY UINT64_C(5)

/* Recommendations: masks. */
#define PV_RECOMMEND_CPUID_MIRROR UINT64_C(0x1)
#define PV_RECOMMEND_HALT UINT64_C(0x2)
#define PV_RECOMMEND_TIMER UINT64_C(0x4)
#define PV_RECOMMEND_EOI UINT64_C(0x8)
#define PV_RECOMMEND_CONSOLE UINT64_C(0x10)
#define PV_RECOMMEND_CLOCK UINT64_C(0x20)
#define PV_RECOMMEND_CR_SHADOW UINT64_C(0x40)
#define PV_RECOMMEND_SYS UINT64_C(0x80)
#define PV_RECOMMEND_TSC_EXITS UINT64_C(0x100)
#define PV_RECOMMEND_SMP UINT64_C(0x200)

/* Status, in RAX. */
#define PV_SUCCESS UINT64_C(0)
#define PV_RESERVED UINT64_C(1)
#define PV_UNKNOWN_EXTENSION UINT64_C(2)
#define PV_UNKNOWN_FUNCTION UINT64_C(3)
#define PV_MISALIGNED UINT64_C(4)
#define PV_BAD_LENGTH UINT64_C(5)
#define PV_BAD_ADDRESS UINT64_C(6)
#define PV_INVALID_ARGUMENT UINT64_C(7)
#define PV_ALREADY_DONE UINT64_C(8)
#define PV_NOT_READY UINT64_C(9)
#define PV_DENIED UINT64_C(10)
#define PV_AGAIN UINT64_C(11)

/* Extension base: its number, its calls in RAX. */
#define PV_EXT_BASE UINT64_C(0x0)
#define PV_EXT_BASE_VERSION UINT64_C(1)
#define PV_BASE_VERSION UINT64_C(0x0)
#define PV_BASE_PROBE UINT64_C(0x1)
#define PV_BASE_ACKNOWLEDGE UINT64_C(0x2)
#define PV_BASE_NOP UINT64_C(0x3)

/* Extension area: its number, its calls in RAX. */
#define PV_EXT_AREA UINT64_C(0x1)
#define PV_EXT_AREA_VERSION UINT64_C(1)
#define PV_AREA_REGISTER UINT64_C(0x10000)
#define PV_AREA_UNREGISTER UINT64_C(0x10001)

/* Extension console: its number, its calls in RAX. */
#define PV_EXT_CONSOLE UINT64_C(0x2)
#define PV_EXT_CONSOLE_VERSION UINT64_C(1)
#define PV_CONSOLE_WRITE UINT64_C(0x20000)
#define PV_CONSOLE_READ UINT64_C(0x20001)
#define PV_CONSOLE_RING_REGISTER UINT64_C(0x20002)
#define PV_CONSOLE_RING_FLUSH UINT64_C(0x20003)

/* Extension timer: its number, its calls in RAX. */
#define PV_EXT_TIMER UINT64_C(0x3)
#define PV_EXT_TIMER_VERSION UINT64_C(1)
#define PV_TIMER_ARM UINT64_C(0x30000)

/* Extension sched: its number, its calls in RAX. */
#define PV_EXT_SCHED UINT64_C(0x4)
#define PV_EXT_SCHED_VERSION UINT64_C(1)
#define PV_SCHED_HALT_UNTIL UINT64_C(0x40000)
#define PV_SCHED_YIELD UINT64_C(0x40001)

/* Extension sys: its number, its calls in RAX. */
#define PV_EXT_SYS UINT64_C(0x5)
#define PV_EXT_SYS_VERSION UINT64_C(1)
#define PV_SYS_SHUTDOWN UINT64_C(0x50000)
#define PV_SYS_RESET UINT64_C(0x50001)
#define PV_SYS_CRASH UINT64_C(0x50002)

/* Extension stat: its number, its calls in RAX. */
#define PV_EXT_STAT UINT64_C(0x6)
#define PV_EXT_STAT_VERSION UINT64_C(1)
#define PV_STAT_MARK UINT64_C(0x60000)
#define PV_STAT_READ UINT64_C(0x60001)

/* Extension smp: its number, its calls in RAX. */
#define PV_EXT_SMP UINT64_C(0x7)
#define PV_EXT_SMP_VERSION UINT64_C(1)
#define PV_SMP_START UINT64_C(0x70000)
#define PV_SMP_SEND UINT64_C(0x70001)
#define PV_SMP_FLUSH UINT64_C(0x70002)
#define PV_SMP_KICK UINT64_C(0x70003)
#define PV_SMP_WAIT UINT64_C(0x70004)
#define PV_SMP_YIELD_TO UINT64_C(0x70005)

/* Extension event: its number, its calls in RAX. */
#define PV_EXT_EVENT UINT64_C(0x8)
#define PV_EXT_EVENT_VERSION UINT64_C(1)
#define PV_EVENT_NUMBER UINT64_C(0x80000)
#define PV_EVENT_LINKS UINT64_C(0x80001)
#define PV_EVENT_OPEN UINT64_C(0x80002)
#define PV_EVENT_CONNECT UINT64_C(0x80003)
#define PV_EVENT_CLOSE UINT64_C(0x80004)
#define PV_EVENT_SEND UINT64_C(0x80005)
#define PV_EVENT_VECTOR UINT64_C(0x80006)
#define PV_EVENT_WAIT UINT64_C(0x80007)

/* Extension share: its number, its calls in RAX. */
#define PV_EXT_SHARE UINT64_C(0x9)
#define PV_EXT_SHARE_VERSION UINT64_C(1)
#define PV_SHARE_OFFER UINT64_C(0x90000)
#define PV_SHARE_REVOKE UINT64_C(0x90001)
#define PV_SHARE_MAP UINT64_C(0x90002)
#define PV_SHARE_UNMAP UINT64_C(0x90003)

/* Arguments. */
#define PV_HALT_ENABLE_INTERRUPTS UINT64_C(0x1)
#define PV_EVENT_WAIT_AFTER UINT64_C(0x1)
#define PV_GRANT_SLOTS UINT64_C(256)
#define PV_GRANT_PLACES UINT64_C(512)
#define PV_GRANT_READ UINT64_C(0)
#define PV_GRANT_READ_WRITE UINT64_C(1)
#define PV_MARK_BEGIN UINT64_C(0)
#define PV_MARK_END UINT64_C(1)

/* Classes of stat.read, ready to be ORed with an index. */
#define PV_STAT_EXIT_COUNT UINT64_C(0x0)
#define PV_STAT_EXIT_TICKS UINT64_C(0x100000000)
#define PV_STAT_CALL_COUNT UINT64_C(0x200000000)
#define PV_STAT_CALL_TICKS UINT64_C(0x300000000)
#define PV_STAT_VMCS UINT64_C(0x400000000)

/* Neutral exit reasons. */
#define PV_EXIT_CPUID UINT64_C(0)
#define PV_EXIT_HYPERCALL UINT64_C(1)
#define PV_EXIT_RDMSR UINT64_C(2)
#define PV_EXIT_WRMSR UINT64_C(3)
#define PV_EXIT_PORT_IN UINT64_C(4)
#define PV_EXIT_PORT_OUT UINT64_C(5)
#define PV_EXIT_CR_WRITE UINT64_C(6)
#define PV_EXIT_CR_READ UINT64_C(7)
#define PV_EXIT_NESTED_PAGE_FAULT UINT64_C(8)
#define PV_EXIT_HLT UINT64_C(9)
#define PV_EXIT_EXTERNAL_INTERRUPT UINT64_C(10)
#define PV_EXIT_NMI UINT64_C(11)
#define PV_EXIT_INTERRUPT_WINDOW UINT64_C(12)
#define PV_EXIT_NMI_WINDOW UINT64_C(13)
#define PV_EXIT_TIME_SLICE UINT64_C(14)
#define PV_EXIT_EXCEPTION UINT64_C(15)
#define PV_EXIT_INVLPG UINT64_C(16)
#define PV_EXIT_RDTSC UINT64_C(17)
#define PV_EXIT_PAUSE UINT64_C(18)
#define PV_EXIT_MWAIT UINT64_C(19)
#define PV_EXIT_DR_ACCESS UINT64_C(20)
#define PV_EXIT_DESCRIPTOR_TABLE UINT64_C(21)
#define PV_EXIT_XSETBV UINT64_C(22)
#define PV_EXIT_WBINVD UINT64_C(23)
#define PV_EXIT_APIC_ACCESS UINT64_C(24)
#define PV_EXIT_APIC_WRITE UINT64_C(25)
#define PV_EXIT_EOI_INDUCED UINT64_C(26)
#define PV_EXIT_TASK_SWITCH UINT64_C(27)
#define PV_EXIT_TRIPLE_FAULT UINT64_C(28)
#define PV_EXIT_VIRT_INSTRUCTION UINT64_C(29)
#define PV_EXIT_RDPMC UINT64_C(30)
#define PV_EXIT_RANDOM UINT64_C(31)
#define PV_EXIT_INIT_SIPI_SMI UINT64_C(32)
#define PV_EXIT_INVPCID UINT64_C(33)
#define PV_EXIT_SINGLE_STEP UINT64_C(34)
#define PV_EXIT_NESTED_MISCONFIG UINT64_C(35)
#define PV_EXIT_TPR_THRESHOLD UINT64_C(36)
#define PV_EXIT_ENTRY_FAILURE UINT64_C(37)
#define PV_EXIT_MARK UINT64_C(38)
#define PV_EXIT_OTHER UINT64_C(39)

/* Sizes. */
#define PV_SHARED_SIZE UINT64_C(4096)
#define PV_INFO_SIZE UINT64_C(8192)
#define PV_EXIT_SLOTS UINT64_C(64)
#define PV_CALL_SLOTS UINT64_C(128)
#define PV_CALLS_PER_EXTENSION UINT64_C(8)
#define PV_PORTS UINT64_C(1024)
#define PV_CPUID_ENTRIES UINT64_C(126)
#define PV_CPUID_SUBLEAF_MATTERS UINT64_C(0x1)
#define PV_RING_CAPACITY UINT64_C(2048)

struct pv_counter {
    uint64_t count;
    uint64_t ticks;
};
PV_ASSERT(sizeof(struct pv_counter) == 16);
PV_ASSERT(offsetof(struct pv_counter, count) == 0);
PV_ASSERT(offsetof(struct pv_counter, ticks) == 8);

struct pv_clock {
    uint32_t sequence;
    uint32_t reserved;
    uint64_t tsc_base;
    uint64_t ns_base;
    uint64_t multiplier;
    uint32_t shift;
    uint32_t reserved2[7];
};
PV_ASSERT(sizeof(struct pv_clock) == 64);
PV_ASSERT(offsetof(struct pv_clock, sequence) == 0);
PV_ASSERT(offsetof(struct pv_clock, reserved) == 4);
PV_ASSERT(offsetof(struct pv_clock, tsc_base) == 8);
PV_ASSERT(offsetof(struct pv_clock, ns_base) == 16);
PV_ASSERT(offsetof(struct pv_clock, multiplier) == 24);
PV_ASSERT(offsetof(struct pv_clock, shift) == 32);
PV_ASSERT(offsetof(struct pv_clock, reserved2) == 36);

struct pv_steal {
    uint64_t stolen;
    uint32_t preempted;
    uint32_t reserved[13];
};
PV_ASSERT(sizeof(struct pv_steal) == 64);
PV_ASSERT(offsetof(struct pv_steal, stolen) == 0);
PV_ASSERT(offsetof(struct pv_steal, preempted) == 8);
PV_ASSERT(offsetof(struct pv_steal, reserved) == 12);

struct pv_cpuid_entry {
    uint32_t leaf;
    uint32_t subleaf;
    uint32_t flags;
    uint32_t reserved;
    uint32_t eax;
    uint32_t ebx;
    uint32_t ecx;
    uint32_t edx;
};
PV_ASSERT(sizeof(struct pv_cpuid_entry) == 32);
PV_ASSERT(offsetof(struct pv_cpuid_entry, leaf) == 0);
PV_ASSERT(offsetof(struct pv_cpuid_entry, subleaf) == 4);
PV_ASSERT(offsetof(struct pv_cpuid_entry, flags) == 8);
PV_ASSERT(offsetof(struct pv_cpuid_entry, reserved) == 12);
PV_ASSERT(offsetof(struct pv_cpuid_entry, eax) == 16);
PV_ASSERT(offsetof(struct pv_cpuid_entry, ebx) == 20);
PV_ASSERT(offsetof(struct pv_cpuid_entry, ecx) == 24);
PV_ASSERT(offsetof(struct pv_cpuid_entry, edx) == 28);

struct pv_vcpu_info {
    uint32_t version;
    uint32_t size;
    uint32_t vcpu;
    uint32_t cpuid_entries;
    uint64_t vmreads;
    uint64_t vmwrites;
    uint64_t entered;
    uint64_t reserved[3];
    struct pv_clock clock;
    struct pv_steal steal;
    uint64_t reserved2[8];
    struct pv_counter exits[64];
    uint64_t reserved3[96];
    struct pv_counter calls[128];
    uint64_t reserved4[8];
    struct pv_cpuid_entry cpuid[126];
};
PV_ASSERT(sizeof(struct pv_vcpu_info) == 8192);
PV_ASSERT(offsetof(struct pv_vcpu_info, version) == 0);
PV_ASSERT(offsetof(struct pv_vcpu_info, size) == 4);
PV_ASSERT(offsetof(struct pv_vcpu_info, vcpu) == 8);
PV_ASSERT(offsetof(struct pv_vcpu_info, cpuid_entries) == 12);
PV_ASSERT(offsetof(struct pv_vcpu_info, vmreads) == 16);
PV_ASSERT(offsetof(struct pv_vcpu_info, vmwrites) == 24);
PV_ASSERT(offsetof(struct pv_vcpu_info, entered) == 32);
PV_ASSERT(offsetof(struct pv_vcpu_info, reserved) == 40);
PV_ASSERT(offsetof(struct pv_vcpu_info, clock) == 64);
PV_ASSERT(offsetof(struct pv_vcpu_info, steal) == 128);
PV_ASSERT(offsetof(struct pv_vcpu_info, reserved2) == 192);
PV_ASSERT(offsetof(struct pv_vcpu_info, exits) == 256);
PV_ASSERT(offsetof(struct pv_vcpu_info, reserved3) == 1280);
PV_ASSERT(offsetof(struct pv_vcpu_info, calls) == 2048);
PV_ASSERT(offsetof(struct pv_vcpu_info, reserved4) == 4096);
PV_ASSERT(offsetof(struct pv_vcpu_info, cpuid) == 4160);

struct pv_vcpu_shared {
    uint64_t deadline;
    uint64_t reserved[7];
    uint64_t armed;
    uint64_t reserved2[7];
    uint32_t eoi;
    uint32_t reserved3[15];
    uint64_t selector;
    uint64_t reserved4[7];
    uint64_t pending[16];
    uint64_t masked[16];
};
PV_ASSERT(sizeof(struct pv_vcpu_shared) == 512);
PV_ASSERT(offsetof(struct pv_vcpu_shared, deadline) == 0);
PV_ASSERT(offsetof(struct pv_vcpu_shared, reserved) == 8);
PV_ASSERT(offsetof(struct pv_vcpu_shared, armed) == 64);
PV_ASSERT(offsetof(struct pv_vcpu_shared, reserved2) == 72);
PV_ASSERT(offsetof(struct pv_vcpu_shared, eoi) == 128);
PV_ASSERT(offsetof(struct pv_vcpu_shared, reserved3) == 132);
PV_ASSERT(offsetof(struct pv_vcpu_shared, selector) == 192);
PV_ASSERT(offsetof(struct pv_vcpu_shared, reserved4) == 200);
PV_ASSERT(offsetof(struct pv_vcpu_shared, pending) == 256);
PV_ASSERT(offsetof(struct pv_vcpu_shared, masked) == 384);

struct pv_console_ring {
    uint32_t head;
    uint32_t reserved[15];
    uint32_t tail;
    uint32_t reserved2[15];
    uint8_t data[2048];
};
PV_ASSERT(sizeof(struct pv_console_ring) == 2176);
PV_ASSERT(offsetof(struct pv_console_ring, head) == 0);
PV_ASSERT(offsetof(struct pv_console_ring, reserved) == 4);
PV_ASSERT(offsetof(struct pv_console_ring, tail) == 64);
PV_ASSERT(offsetof(struct pv_console_ring, reserved2) == 68);
PV_ASSERT(offsetof(struct pv_console_ring, data) == 128);

#endif
