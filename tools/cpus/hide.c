// Hides instruction sets from a library: its cpuid instructions are answered without their feature bits.
//
// hide.py replaces each cpuid of a copy of the library by 0f b9, which starts UD1, an instruction defined to be
// undefined: it raises SIGILL. The handler here executes the real cpuid, clears bits, and continues behind the two
// bytes. Loaded by LD_PRELOAD, for Linux on x86-64. HIDE_FROM names the lowest level that is hidden: "avx512" leaves
// AVX2, "vnni" leaves AVX-512's first set.

#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define BIT(n) (1u << (n))

// Leaf 7 of cpuid (Intel's Software Developer's Manual, volume 2A).
enum {
    F_DQ_IFMA_PF_ER_CD_BW_VL = BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | (int)BIT(31),
    VBMI_VBMI2_BITALG_POPCNT = BIT(1) | BIT(6) | BIT(12) | BIT(14),
    VNNI = BIT(11),
    VNNIW_FMAPS_INTERSECT_FP16 = BIT(2) | BIT(3) | BIT(8) | BIT(23),
    AMX = BIT(22) | BIT(24) | BIT(25),
    // Subleaf 1: AVX-VNNI, AVX512-BF16, AMX-FP16, AVX-IFMA; in edx AVX-VNNI-INT8, AVX-NE-CONVERT, AMX-COMPLEX,
    // AVX-VNNI-INT16, AVX10.
    NEWER_EAX = BIT(4) | BIT(5) | BIT(21) | BIT(23),
    NEWER_EDX = BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19),
};

typedef int (*sigaction_t)(int, const struct sigaction *, struct sigaction *);

static sigaction_t real_sigaction;
static struct sigaction wanted;  // what the program asked for: for any other illegal instruction
static int hides_avx512 = 1;

static void answer(unsigned leaf, unsigned subleaf, unsigned reg[4]) {
    __cpuid_count(leaf, subleaf, reg[0], reg[1], reg[2], reg[3]);
    if (leaf == 7 && subleaf == 0) {
        reg[2] &= ~(unsigned)VNNI;
        reg[3] &= ~(unsigned)AMX;
        if (hides_avx512) {
            reg[1] &= ~(unsigned)F_DQ_IFMA_PF_ER_CD_BW_VL;
            reg[2] &= ~(unsigned)VBMI_VBMI2_BITALG_POPCNT;
            reg[3] &= ~(unsigned)VNNIW_FMAPS_INTERSECT_FP16;
        }
    } else if (leaf == 7 && subleaf == 1) {
        reg[0] &= ~(unsigned)NEWER_EAX;
        reg[3] &= ~(unsigned)NEWER_EDX;
    }
}

static void on_illegal(int number, siginfo_t *info, void *context) {
    greg_t *reg = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *at = (const unsigned char *)reg[REG_RIP];
    if (at[0] != 0x0f || at[1] != 0xb9) {
        real_sigaction(number, &wanted, NULL);  // raised again on return, unless another process sent it
        if (info->si_code <= 0) raise(number);
        return;
    }
    unsigned out[4];
    answer((unsigned)reg[REG_RAX], (unsigned)reg[REG_RCX], out);
    reg[REG_RAX] = out[0];
    reg[REG_RBX] = out[1];
    reg[REG_RCX] = out[2];
    reg[REG_RDX] = out[3];
    reg[REG_RIP] += 2;
}

__attribute__((constructor)) static void install(void) {
    const char *level = getenv("HIDE_FROM");
    hides_avx512 = level == NULL || strcmp(level, "vnni") != 0;
    real_sigaction = (sigaction_t)dlsym(RTLD_NEXT, "sigaction");
    struct sigaction ours = {.sa_sigaction = on_illegal, .sa_flags = SA_SIGINFO | SA_NODEFER};
    real_sigaction(SIGILL, &ours, &wanted);
}

// Python's faulthandler takes SIGILL too: it gets what is not ours.
int sigaction(int number, const struct sigaction *action, struct sigaction *old) {
    if (number != SIGILL) {
        if (real_sigaction == NULL) real_sigaction = (sigaction_t)dlsym(RTLD_NEXT, "sigaction");
        return real_sigaction(number, action, old);
    }
    if (old != NULL) *old = wanted;
    if (action != NULL) wanted = *action;
    return 0;
}
