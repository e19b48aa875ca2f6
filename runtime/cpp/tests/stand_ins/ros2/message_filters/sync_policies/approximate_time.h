#pragma once
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <rclcpp/rclcpp.hpp>

#include "message_filters/synchronizer.h"

namespace message_filters::sync_policies {

/// The latest message of each topic, where they are near enough in time.
template <class First, class Second>
class ApproximateTime {
  public:
    explicit ApproximateTime(std::uint32_t) {}
    void setMaxIntervalDuration(const rclcpp::Duration &most) { most_ns = most.nanoseconds(); }

    template <int INDEX>
    void add(const MessageEvent<const First> &event) {
        static_assert(INDEX == 0 || INDEX == 1);
        last[INDEX] = event.getMessage();
        if (!last[0] || !last[1] || std::llabs(stamp(0) - stamp(1)) > most_ns) return;
        callback(last[0], last[1]);
        last[0] = last[1] = nullptr;
    }

    std::function<void(const std::shared_ptr<const First> &, const std::shared_ptr<const Second> &)> callback;

  private:
    std::int64_t stamp(int index) const { return rclcpp::Time(last[index]->header.stamp).nanoseconds(); }
    std::int64_t most_ns = INT64_MAX;
    std::shared_ptr<const First> last[2];
};

}  // namespace message_filters::sync_policies
