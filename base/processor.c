// processor.c - which instructions there are. See processor.h.
//
// An x86-64 processor answers for itself (cpuid), and xgetbv tells whether the operating system saves
// the wider registers; the compiler's built-in function has both in mind. AArch64 processors answer
// only the operating system:
//
//     Linux, FreeBSD    two words of flags that every process starts with: HWCAP, HWCAP2
//     macOS             sysctl hw.optional.arm.FEAT_...
#include "base/processor.h"

#if defined(__x86_64__)
#include <cpuid.h>

bool processor_has_avx2(void)
{
    unsigned a, b, c, d;
    // In older compilers __builtin_cpu_supports does not know F16C.
    const bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c;
}

// Leaf 7, whose subleaf 0 has the number of the last subleaf in eax; bit 4 of eax in subleaf 1. (Older
// compilers do not know the name.) The registers are those of AVX2.
bool processor_has_avxvnni(void)
{
    unsigned last, a, b, c, d;
    return processor_has_avx2() && __get_cpuid_count(7, 0, &last, &b, &c, &d) && last >= 1 &&
           __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 4);
}

bool processor_has_avx512(void)
{
    return processor_has_avx2() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}
#elif defined(__aarch64__)
#if defined(__APPLE__)
#include <stddef.h>
#include <sys/sysctl.h>

static bool has_feature(const char *name)
{
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, NULL, 0) == 0 && value != 0;
}

bool processor_has_dotprod(void) { return has_feature("hw.optional.arm.FEAT_DotProd"); }

bool processor_has_i8mm(void)
{
    return processor_has_dotprod() && has_feature("hw.optional.arm.FEAT_I8MM");
}
#else
#if defined(__linux__) || defined(__FreeBSD__)
#include <sys/auxv.h>
#endif

// The flags as Linux and FreeBSD number them, since older headers lack the names.
#define FLAG_DOTPROD (1ul << 20)  // of HWCAP
#define FLAG_I8MM    (1ul << 13)  // of HWCAP2

// A word of flags, 0 if it is unknown.
static unsigned long hwcap(int which)
{
#if defined(__linux__)
    return getauxval(which == 2 ? AT_HWCAP2 : AT_HWCAP);
#elif defined(__FreeBSD__)
    unsigned long flags = 0;
    const int error = elf_aux_info(which == 2 ? AT_HWCAP2 : AT_HWCAP, &flags, sizeof flags);
    return error == 0 ? flags : 0;
#else
    (void)which;
    return 0;
#endif
}

bool processor_has_dotprod(void) { return hwcap(1) & FLAG_DOTPROD; }
bool processor_has_i8mm(void) { return processor_has_dotprod() && (hwcap(2) & FLAG_I8MM); }
#endif
#endif
