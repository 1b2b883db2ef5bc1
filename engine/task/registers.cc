#include "engine/task/registers.h"

#include <cpuid.h>

#include <array>
#include <cstring>

#include "engine/base/error.h"
#include "engine/tracee/syscall_restart.h"

namespace godwit::task {
namespace {

// The legacy region, which FXSAVE defined.
struct LegacyRegion {
  uint16_t cwd, swd, twd, fop;
  uint64_t rip, rdp;
  uint32_t mxcsr, mxcsr_mask;
  std::array<uint32_t, 32> st_space;
  std::array<uint32_t, 64> xmm_space;
};
static_assert(sizeof(LegacyRegion) == 416);

constexpr size_t kHeaderOffset = 512;  // XSTATE_BV, XCOMP_BV
constexpr size_t kMinimumArea = 576;
constexpr uint64_t kLegacyComponents = 0b11;            // x87 and SSE
constexpr uint64_t kHoldableComponents = 0b1011111111;  // those, AVX, MPX, AVX-512, PKRU

enum Component { kYmm = 2, kBndRegs = 3, kBndCsr = 4, kOpmask = 5, kZmmUpper = 6, kHi16Zmm = 7, kPkru = 9 };

struct Place {
  size_t offset = 0, size = 0;
};

// Where a component stands in the standard format on this processor (CPUID leaf 0xD); size 0 when it has
// none.
Place place_of(int component) {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(0xD, static_cast<unsigned>(component), &eax, &ebx, &ecx, &edx) == 0) return {};
  return {ebx, eax};
}

// Calls visit(component, repeated field) for each extended component of an entry.
template <class Entry, class Visit>
void for_each_component(Entry& entry, Visit visit) {
  if constexpr (std::is_const_v<Entry>) {
    visit(kYmm, entry.ymmh_space());
    visit(kBndRegs, entry.bndreg_state());
    visit(kBndCsr, entry.bndcsr_state());
    visit(kOpmask, entry.opmask_reg());
    visit(kZmmUpper, entry.zmm_upper());
    visit(kHi16Zmm, entry.hi16_zmm());
    visit(kPkru, entry.pkru());
  } else {
    visit(kYmm, *entry.mutable_ymmh_space());
    visit(kBndRegs, *entry.mutable_bndreg_state());
    visit(kBndCsr, *entry.mutable_bndcsr_state());
    visit(kOpmask, *entry.mutable_opmask_reg());
    visit(kZmmUpper, *entry.mutable_zmm_upper());
    visit(kHi16Zmm, *entry.mutable_hi16_zmm());
    visit(kPkru, *entry.mutable_pkru());
  }
}

template <class Repeated>
void check_size(const Repeated& values, size_t expected, const char* name) {
  if (static_cast<size_t>(values.size()) < expected) {
    throw FormatError("fpregs: {} has {} values, not {}", name, values.size(), expected);
  }
}

}  // namespace

void encode_registers(const user_regs_struct& registers, pb::user_x86_regs_entry& entry) {
  entry.set_r15(registers.r15);
  entry.set_r14(registers.r14);
  entry.set_r13(registers.r13);
  entry.set_r12(registers.r12);
  entry.set_bp(registers.rbp);
  entry.set_bx(registers.rbx);
  entry.set_r11(registers.r11);
  entry.set_r10(registers.r10);
  entry.set_r9(registers.r9);
  entry.set_r8(registers.r8);
  entry.set_ax(registers.rax);
  entry.set_cx(registers.rcx);
  entry.set_dx(registers.rdx);
  entry.set_si(registers.rsi);
  entry.set_di(registers.rdi);
  entry.set_orig_ax(registers.orig_rax);
  entry.set_ip(registers.rip);
  entry.set_cs(registers.cs);
  entry.set_flags(registers.eflags);
  entry.set_sp(registers.rsp);
  entry.set_ss(registers.ss);
  entry.set_fs_base(registers.fs_base);
  entry.set_gs_base(registers.gs_base);
  entry.set_ds(registers.ds);
  entry.set_es(registers.es);
  entry.set_fs(registers.fs);
  entry.set_gs(registers.gs);
  entry.set_mode(pb::NATIVE);
}

user_regs_struct decode_registers(const pb::user_x86_regs_entry& entry) {
  constexpr uint64_t kUserCode64 = 0x33, kUserData = 0x2b;
  if (entry.cs() != kUserCode64 || entry.ss() != kUserData || entry.mode() != pb::NATIVE) {
    throw FormatError("gpregs: cs {:#x}, ss {:#x}: not a 64-bit task", entry.cs(), entry.ss());
  }
  user_regs_struct registers{};
  registers.r15 = entry.r15();
  registers.r14 = entry.r14();
  registers.r13 = entry.r13();
  registers.r12 = entry.r12();
  registers.rbp = entry.bp();
  registers.rbx = entry.bx();
  registers.r11 = entry.r11();
  registers.r10 = entry.r10();
  registers.r9 = entry.r9();
  registers.r8 = entry.r8();
  registers.rax = entry.ax();
  registers.rcx = entry.cx();
  registers.rdx = entry.dx();
  registers.rsi = entry.si();
  registers.rdi = entry.di();
  registers.orig_rax = entry.orig_ax();
  registers.rip = entry.ip();
  registers.cs = entry.cs();
  registers.eflags = entry.flags();
  registers.rsp = entry.sp();
  registers.ss = entry.ss();
  registers.fs_base = entry.fs_base();
  registers.gs_base = entry.gs_base();
  registers.ds = entry.ds();
  registers.es = entry.es();
  registers.fs = entry.fs();
  registers.gs = entry.gs();
  // Images of other writers may hold a call that was interrupted; ours have its restart prepared.
  return tracee::resumed_registers(registers, tracee::RestartBlock::kLost);
}

void encode_xstate(std::span<const std::byte> area, pb::user_x86_fpregs_entry& entry) {
  if (area.size() < kMinimumArea) throw FormatError("xstate of {} bytes", area.size());
  LegacyRegion legacy;
  std::memcpy(&legacy, area.data(), sizeof legacy);
  uint64_t in_use;
  std::memcpy(&in_use, area.data() + kHeaderOffset, sizeof in_use);
  if (uint64_t strange = in_use & ~kHoldableComponents; strange != 0) {
    throw RefusedError("processor state components {:#x} (AMX tiles?) have no place in the images", strange);
  }
  entry.set_cwd(legacy.cwd);
  entry.set_swd(legacy.swd);
  entry.set_twd(legacy.twd);
  entry.set_fop(legacy.fop);
  entry.set_rip(legacy.rip);
  entry.set_rdp(legacy.rdp);
  entry.set_mxcsr(legacy.mxcsr);
  entry.set_mxcsr_mask(legacy.mxcsr_mask);
  entry.mutable_st_space()->Assign(legacy.st_space.begin(), legacy.st_space.end());
  entry.mutable_xmm_space()->Assign(legacy.xmm_space.begin(), legacy.xmm_space.end());
  auto& xsave = *entry.mutable_xsave();
  xsave.set_xstate_bv(in_use);
  for_each_component(xsave, [&](Component component, auto& values) {
    using Value = typename std::remove_reference_t<decltype(values)>::value_type;
    Place place = place_of(component);
    if (place.size == 0 || place.offset + place.size > area.size()) return;
    // All that the processor reserves for it, padding included: CRIU compares the sizes.
    std::vector<Value> copy(place.size / sizeof(Value));
    if ((in_use >> component & 1) != 0) std::memcpy(copy.data(), area.data() + place.offset, place.size);
    values.Assign(copy.begin(), copy.end());
  });
}

void decode_xstate(const pb::user_x86_fpregs_entry& entry, std::span<std::byte> area) {
  if (area.size() < kMinimumArea) throw FormatError("xstate of {} bytes", area.size());
  LegacyRegion legacy{};
  check_size(entry.st_space(), legacy.st_space.size(), "st_space");
  check_size(entry.xmm_space(), legacy.xmm_space.size(), "xmm_space");
  legacy.cwd = static_cast<uint16_t>(entry.cwd());
  legacy.swd = static_cast<uint16_t>(entry.swd());
  legacy.twd = static_cast<uint16_t>(entry.twd());
  legacy.fop = static_cast<uint16_t>(entry.fop());
  legacy.rip = entry.rip();
  legacy.rdp = entry.rdp();
  // A bit that this processor reserves would make the kernel refuse the whole area.
  uint32_t mask;
  std::memcpy(&mask, area.data() + offsetof(LegacyRegion, mxcsr_mask), sizeof mask);
  if (mask == 0) mask = 0xffbf;
  legacy.mxcsr = entry.mxcsr() & mask;
  legacy.mxcsr_mask = mask;
  std::copy_n(entry.st_space().begin(), legacy.st_space.size(), legacy.st_space.begin());
  std::copy_n(entry.xmm_space().begin(), legacy.xmm_space.size(), legacy.xmm_space.begin());
  std::memcpy(area.data(), &legacy, sizeof legacy);

  uint64_t in_use = entry.has_xsave() ? entry.xsave().xstate_bv() : kLegacyComponents;
  if ((in_use & ~kHoldableComponents) != 0) throw FormatError("xsave: unknown components {:#x}", in_use);
  std::memset(area.data() + kHeaderOffset, 0, 64);
  std::memcpy(area.data() + kHeaderOffset, &in_use, sizeof in_use);
  if (!entry.has_xsave()) return;
  for_each_component(entry.xsave(), [&](Component component, const auto& values) {
    using Value = typename std::remove_cvref_t<decltype(values)>::value_type;
    if ((in_use >> component & 1) == 0) return;
    Place place = place_of(component);
    if (place.size == 0 || place.offset + place.size > area.size()) {
      throw Error("this processor has no state component {}, which the task uses",
                  static_cast<int>(component));
    }
    size_t count = place.size / sizeof(Value);
    check_size(values, count, "a state component");
    std::vector<Value> copy(values.begin(), values.begin() + static_cast<int>(count));
    std::memcpy(area.data() + place.offset, copy.data(), place.size);
  });
}

}  // namespace godwit::task
