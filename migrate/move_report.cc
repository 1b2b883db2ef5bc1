#include "migrate/move_report.h"

#include <nlohmann/json.hpp>

#include "engine/base/units.h"

namespace godwit::migrate {
namespace {

using Json = nlohmann::ordered_json;

Json round_json(const MoveReport::Round& round) {
  Json json = {{"pages", round.facts.pages},
               {"bytes_on_wire", round.facts.bytes_sent},
               {"seconds", round.facts.seconds},
               {"frozen_seconds", round.facts.frozen},
               {"pages_per_second", round.forecast.link_rate}};
  if (round.forecast.dirty_rate) json["dirty_pages_per_second"] = *round.forecast.dirty_rate;
  if (round.forecast.pages_left) json["expected_pages_left"] = *round.forecast.pages_left;
  if (round.forecast.downtime) json["expected_downtime_seconds"] = *round.forecast.downtime;
  return json;
}

Json final_json(const MoveReport::Final& last) {
  return {{"dirty_pages", last.dirty_pages}, {"shipped_pages", last.shipped_pages},
          {"lazy_pages", last.lazy_pages},   {"image_bytes", last.image_bytes},
          {"freeze_seconds", last.freeze},   {"ship_seconds", last.ship},
          {"images_seconds", last.images},   {"restore_seconds", last.restore},
          {"commit_seconds", last.commit}};
}

}  // namespace

std::string to_json(const MoveReport& report) {
  Json rounds = Json::array();
  for (const auto& round : report.rounds) rounds.push_back(round_json(round));
  Json json = {{"id", report.id},
               {"outcome", report.outcome},
               {"reason", report.reason},
               {"pid", report.pid},
               {"name", report.name},
               {"mode", report.mode},
               {"destination", report.destination},
               {"processes", report.processes},
               {"threads", report.threads},
               {"resident_bytes", report.resident_bytes},
               {"round_trip_seconds", report.round_trip},
               {"link_bytes_per_second", report.link_rate},
               {"findings", report.findings},
               {"warnings", report.warnings},
               {"rounds", std::move(rounds)},
               {"why_rounds_ended", report.why_rounds_ended},
               {"final", final_json(report.last)},
               {"postcopy", {{"pages", report.postcopy_pages}, {"seconds", report.postcopy}}},
               {"total_seconds", report.total},
               {"downtime_seconds", report.downtime},
               {"bytes_on_wire", report.bytes_on_wire}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace godwit::migrate
