/* AMX for a processor that has none: there each of its instructions raises SIGILL, and the handler below does what the
   instruction would have done.  So the compiled kernels run as they are, in real threads, only slowly.

       cc -O3 -march=native -shared -fPIC -o amx_traps.so amx_traps.c -ldl -lm
       LD_PRELOAD=./amx_traps.so NUMBA_CPU_FEATURES=…,+amx-tile,+amx-bf16,+amx-int8 python …

   It ends the process where a tile is used before its thread loaded a configuration, or before Linux was asked, and at
   what these kernels do not need: tiles that are not 16 rows of 64 bytes, instructions that are not listed.  Written from
   Intel's Software Developer's Manual, volume 2. Bfloat16: even and odd k are summed apart, with fused multiply-adds;
   denormals are zero. Int8: integers of 8 bits without a sign times integers with a sign, summed in 32 bits. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <immintrin.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

enum { TILES = 8, ROWS = 16, BYTES = 64, WORDS = BYTES / 4 };
enum { ARCH_PRCTL = 158, ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };

static int permitted;

static __thread int configured __attribute__((tls_model("initial-exec")));
static __thread uint8_t tile[TILES][ROWS][BYTES] __attribute__((tls_model("initial-exec"), aligned(64)));

static void refuse(const char *why)
{
    write(2, "amx_traps: ", 11);
    write(2, why, strlen(why));
    write(2, "\n", 1);
    _exit(70);
}

static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                              REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

/* One instruction: C4, two bytes of VEX prefix, opcode, ModRM and perhaps an address. */
struct instruction { int high_index, high_base, map, third, prefix, opcode, mode, reg, rm, length; int64_t address, stride; };

static struct instruction decode(const uint8_t *code, const greg_t *registers)
{
    struct instruction i = {.length = 5};
    if (code[0] != 0xC4)
        refuse("not an instruction of AMX");
    i.high_index = !(code[1] & 0x40) << 3, i.high_base = !(code[1] & 0x20) << 3, i.map = code[1] & 31;
    i.third = ~code[2] >> 3 & 15, i.prefix = code[2] & 0x87, i.opcode = code[3];
    i.mode = code[4] >> 6, i.reg = code[4] >> 3 & 7, i.rm = code[4] & 7;
    if (i.map != 2)
        refuse("not an instruction of AMX");
    if (i.mode == 3)
        return i;
    int base = i.rm, relative = i.mode == 0 && i.rm == 5;
    if (i.rm == 4) {
        int sib = code[i.length++], index = (sib >> 3 & 7) | i.high_index;
        base = sib & 7;
        i.stride = index == 4 ? 0 : (int64_t)((uint64_t)registers[order[index]] << (sib >> 6));
    }
    if (!relative && !(i.mode == 0 && base == 5))
        i.address = registers[order[base | i.high_base]];
    if (i.mode == 1)
        i.address += (int8_t)code[i.length++];
    else if (i.mode == 2 || relative || (i.mode == 0 && base == 5)) {
        int32_t displacement;
        memcpy(&displacement, code + i.length, 4);
        i.address += displacement, i.length += 4;
    }
    if (relative)
        i.address += (int64_t)(code + i.length);
    return i;
}

static float widened(uint16_t upper)
{
    uint32_t bits = (uint32_t)upper << 16;
    float number;
    memcpy(&number, &bits, 4);
    return number;
}

/* Both functions: tile[to] += tile[left] @ tile[right]. Row m of the left tile holds the words of k. Row k of the right
   tile holds the same words of each n. */
static void multiply_bfloat16(float (*to)[WORDS], uint16_t (*left)[2 * WORDS], uint16_t (*right)[2 * WORDS])
{
    for (int m = 0; m < ROWS; m++) {
        float even[WORDS] = {0}, odd[WORDS] = {0};
        for (int k = 0; k < WORDS; k++)
            for (int n = 0; n < WORDS; n++) {
                even[n] = fmaf(widened(left[m][2 * k]), widened(right[k][2 * n]), even[n]);
                odd[n] = fmaf(widened(left[m][2 * k + 1]), widened(right[k][2 * n + 1]), odd[n]);
            }
        for (int n = 0; n < WORDS; n++)
            to[m][n] += even[n] + odd[n];
    }
}

static void multiply_int8(int32_t (*to)[WORDS], uint8_t (*left)[4 * WORDS], int8_t (*right)[4 * WORDS])
{
    for (int m = 0; m < ROWS; m++)
        for (int k = 0; k < WORDS; k++)
            for (int n = 0; n < WORDS; n++)
                for (int b = 0; b < 4; b++)
                    to[m][n] += left[m][4 * k + b] * right[k][4 * n + b];
}

static void configure(const uint8_t *wanted)
{
    if (wanted[0] != 1 || wanted[1] != 0)
        refuse("a palette or a start row that is not the usual one");
    for (int t = 0; t < TILES; t++)
        if (wanted[48 + t] != ROWS || wanted[16 + 2 * t] != BYTES || wanted[17 + 2 * t] != 0)
            refuse("a tile that is not 16 rows of 64 bytes");
    configured = 1;
    memset(tile, 0, sizeof tile);
}

enum { NONE = 0x00, P66 = 0x01, PF3 = 0x02, PF2 = 0x03 };

static void trapped(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    struct instruction i = decode((const uint8_t *)registers[REG_RIP], registers);
    _mm_setcsr(0x1F80 | _MM_FLUSH_ZERO_ON | _MM_DENORMALS_ZERO_ON);       /* the kernel puts back what was there */
    if (!permitted)
        refuse("a tile before Linux was asked");
    if (!configured && !(i.opcode == 0x49 && i.prefix == NONE))
        refuse("a tile before its configuration");
    if (i.opcode == 0x49 && i.prefix == NONE && i.mode == 3)
        configured = 0;                                                   /* tilerelease */
    else if (i.opcode == 0x49 && i.prefix == NONE)
        configure((const uint8_t *)i.address);
    else if (i.opcode == 0x49 && i.prefix == PF2)
        memset(tile[i.reg], 0, sizeof tile[i.reg]);
    else if (i.opcode == 0x4B && (i.prefix == PF2 || i.prefix == P66))
        for (int m = 0; m < ROWS; m++)
            memcpy(tile[i.reg][m], (const void *)(i.address + m * i.stride), BYTES);
    else if (i.opcode == 0x4B && i.prefix == PF3)
        for (int m = 0; m < ROWS; m++)
            memcpy((void *)(i.address + m * i.stride), tile[i.reg][m], BYTES);
    else if (i.opcode == 0x5C && i.prefix == PF3)
        multiply_bfloat16((void *)tile[i.reg], (void *)tile[i.rm], (void *)tile[i.third]);
    else if (i.opcode == 0x5E && i.prefix == P66)
        multiply_int8((void *)tile[i.reg], (void *)tile[i.rm], (void *)tile[i.third]);
    else
        refuse("an instruction that is not listed here");
    registers[REG_RIP] += i.length;
}

/* The permission that the kernel is asked for; any other call goes its way. */
long syscall(long number, ...)
{
    static long (*real)(long, ...);
    va_list more;
    long a[6];
    va_start(more, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(more, long);
    va_end(more);
    if (number == ARCH_PRCTL && a[0] == ARCH_REQ_XCOMP_PERM && a[1] == XFEATURE_XTILEDATA)
        return permitted = 1, 0;
    if (!real)
        real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

__attribute__((constructor)) static void install(void)
{
    struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGILL, &action, 0);
}
