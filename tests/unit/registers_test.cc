// Registers between the kernel's formats and the images'.
#include "engine/task/registers.h"

#include <cpuid.h>
#include <doctest/doctest.h>

#include <array>
#include <cstring>
#include <random>

#include "engine/base/error.h"

namespace godwit::task {
namespace {

constexpr size_t kHeader = 512, kFirstComponent = 576;

// The size of this processor's standard XSAVE area, and where a component is in it.
size_t area_size() {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  __get_cpuid_count(0xD, 0, &eax, &ebx, &ecx, &edx);
  return std::max<size_t>(ebx, kFirstComponent);
}
std::pair<size_t, size_t> place_of(unsigned component) {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  __get_cpuid_count(0xD, component, &eax, &ebx, &ecx, &edx);
  return {ebx, eax};
}
uint64_t supported_components() {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  __get_cpuid_count(0xD, 0, &eax, &ebx, &ecx, &edx);
  return eax & 0b1011111111u;
}

std::vector<std::byte> random_area(uint64_t in_use, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> area(area_size());
  auto fill = [&](size_t offset, size_t size) {
    for (size_t i = 0; i < size && offset + i < area.size(); ++i)
      area[offset + i] = static_cast<std::byte>(random());
  };
  fill(0, 416);
  uint32_t mxcsr = 0x1f80, mask = 0xffff;
  std::memcpy(area.data() + 24, &mxcsr, 4);
  std::memcpy(area.data() + 28, &mask, 4);
  std::memcpy(area.data() + kHeader, &in_use, 8);
  for (unsigned component : {2u, 3u, 4u, 5u, 6u, 7u, 9u}) {
    if ((in_use >> component & 1) == 0) continue;
    auto [offset, size] = place_of(component);
    fill(offset, component == 4 ? 16 : size);
  }
  return area;
}

pb::user_x86_fpregs_entry encoded(std::span<const std::byte> area) {
  pb::user_x86_fpregs_entry entry;
  encode_xstate(area, entry);
  return entry;
}

user_regs_struct numbered_registers() {
  user_regs_struct registers{};
  auto* words = reinterpret_cast<unsigned long long*>(&registers);
  for (size_t i = 0; i < sizeof registers / sizeof *words; ++i) words[i] = 0x1000 + i;
  registers.cs = 0x33;
  registers.ss = 0x2b;
  registers.orig_rax = ~0ull;
  return registers;
}

TEST_CASE("every general register comes back") {
  auto before = numbered_registers();
  pb::user_x86_regs_entry entry;
  encode_registers(before, entry);
  auto after = decode_registers(entry);
  CHECK(std::memcmp(&before, &after, sizeof before) == 0);
}

TEST_CASE("an interrupted call of another writer's image is made again, or ends with EINTR") {
  auto registers = numbered_registers();
  registers.orig_rax = 0;  // read
  registers.rax = static_cast<unsigned long long>(-512);
  pb::user_x86_regs_entry entry;
  encode_registers(registers, entry);
  auto again = decode_registers(entry);
  CHECK(again.rax == 0);
  CHECK(again.rip == registers.rip - 2);
  CHECK(again.orig_rax == ~0ull);
  entry.set_ax(static_cast<uint64_t>(-516));
  auto interrupted = decode_registers(entry);
  CHECK(interrupted.rax == static_cast<unsigned long long>(-EINTR));
  CHECK(interrupted.rip == registers.rip);
}

TEST_CASE("registers of no 64-bit task are refused") {
  pb::user_x86_regs_entry entry;
  encode_registers(numbered_registers(), entry);
  auto with = [&](auto change) {
    auto copy = entry;
    change(copy);
    return copy;
  };
  CHECK_THROWS_AS(decode_registers(with([](auto& e) { e.set_cs(0x23); })), FormatError);
  CHECK_THROWS_AS(decode_registers(with([](auto& e) { e.set_cs(0x10); })), FormatError);
  CHECK_THROWS_AS(decode_registers(with([](auto& e) { e.set_ss(0x18); })), FormatError);
  CHECK_THROWS_AS(decode_registers(with([](auto& e) { e.set_mode(pb::COMPAT); })), FormatError);
}

TEST_CASE("the extended state comes back, whichever components are in use") {
  uint64_t all = supported_components();
  std::vector<uint64_t> sets{all, 0b11, 0b01, 0, all & ~uint64_t{0b11}};
  for (unsigned component = 2; component < 10; ++component) sets.push_back(all & ~(uint64_t{1} << component));
  for (uint64_t in_use : sets) {
    CAPTURE(in_use);
    auto before = random_area(in_use, 1);
    // What a fresh task of this machine holds, here: other noise in every component.
    auto after = random_area(all, 2);
    decode_xstate(encoded(before), after);
    uint64_t header[8];
    std::memcpy(header, after.data() + kHeader, sizeof header);
    CHECK(header[0] == in_use);
    CHECK(header[1] == 0);  // XCOMP_BV: the standard format
    CHECK(std::memcmp(before.data(), after.data(), 416) == 0);
    for (unsigned component : {2u, 3u, 4u, 5u, 6u, 7u, 9u}) {
      if ((in_use >> component & 1) == 0) continue;
      auto [offset, size] = place_of(component);
      CHECK(std::memcmp(before.data() + offset, after.data() + offset, component == 4 ? 16 : size) == 0);
    }
  }
}

TEST_CASE("a component that is not in use is written as zeros, whatever is left of it") {
  uint64_t all = supported_components();
  if ((all >> 2 & 1) == 0) return;
  auto area = random_area(all, 3);
  uint64_t without_avx = all & ~uint64_t{4};
  std::memcpy(area.data() + kHeader, &without_avx, 8);
  auto entry = encoded(area);
  CHECK(entry.xsave().xstate_bv() == without_avx);
  REQUIRE(entry.xsave().ymmh_space_size() == 64);
  for (uint32_t value : entry.xsave().ymmh_space()) CHECK(value == 0);
}

TEST_CASE("AMX tiles are refused, an area that is too short too") {
  auto area = random_area(0b11, 4);
  uint64_t tiles = uint64_t{0b11} << 17 | 0b11;
  std::memcpy(area.data() + kHeader, &tiles, 8);
  pb::user_x86_fpregs_entry entry;
  CHECK_THROWS_AS(encode_xstate(area, entry), RefusedError);
  CHECK_THROWS_AS(encode_xstate(std::span(area).first(575), entry), FormatError);
  auto good = encoded(random_area(0b11, 4));
  CHECK_THROWS_AS(decode_xstate(good, std::span(area).first(512)), FormatError);
}

TEST_CASE("hostile entries are refused before a byte is copied out of bounds") {
  uint64_t all = supported_components();
  auto good = encoded(random_area(all, 5));
  auto area = random_area(all, 6);
  auto refuses = [&](auto change) {
    auto entry = good;
    change(entry);
    auto copy = area;
    CHECK_THROWS_AS(decode_xstate(entry, copy), Error);
  };
  refuses([](auto& entry) { entry.clear_st_space(); });
  refuses([](auto& entry) { entry.mutable_xmm_space()->Truncate(63); });
  refuses([](auto& entry) { entry.mutable_xsave()->set_xstate_bv(~uint64_t{0}); });
  refuses([](auto& entry) { entry.mutable_xsave()->set_xstate_bv(uint64_t{1} << 63 | 3); });
  if ((all >> 2 & 1) != 0) {
    refuses([](auto& entry) { entry.mutable_xsave()->clear_ymmh_space(); });
    refuses([](auto& entry) { entry.mutable_xsave()->mutable_ymmh_space()->Truncate(1); });
  }
  if ((all >> 6 & 1) != 0) refuses([](auto& entry) { entry.mutable_xsave()->clear_zmm_upper(); });
  // More than there is room for does no harm: only what belongs to the component is taken.
  auto longer = good;
  for (int i = 0; i < 100000; ++i) longer.mutable_xsave()->add_ymmh_space(0xdeadbeef);
  auto copy = area, expected = area;
  decode_xstate(longer, copy);
  decode_xstate(good, expected);
  CHECK(copy == expected);
}

TEST_CASE("bits of MXCSR that this processor reserves do not reach the kernel") {
  auto entry = encoded(random_area(0b11, 7));
  entry.set_mxcsr(0xffffffff);
  auto area = random_area(0b11, 8);
  decode_xstate(entry, area);
  uint32_t mxcsr = 0;
  std::memcpy(&mxcsr, area.data() + 24, 4);
  CHECK(mxcsr == 0xffff);
}

TEST_CASE("an entry without xsave, as of old processors, has x87 and SSE") {
  auto before = random_area(0b11, 9);
  auto entry = encoded(before);
  entry.clear_xsave();
  auto after = random_area(supported_components(), 10);
  decode_xstate(entry, after);
  uint64_t in_use = 0;
  std::memcpy(&in_use, after.data() + kHeader, 8);
  CHECK(in_use == 0b11);
  CHECK(std::memcmp(before.data(), after.data(), 416) == 0);
}

}  // namespace
}  // namespace godwit::task
