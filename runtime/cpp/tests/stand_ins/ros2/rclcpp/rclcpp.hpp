// A stand-in of rclcpp for tests where no ROS 2 is: what the example component uses of it, in one process, with a clock
// that a test sets. It shows that the component compiles against these names, not that ROS 2 has them.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace builtin_interfaces::msg {
struct Time {
    std::int32_t sec = 0;
    std::uint32_t nanosec = 0;
};
}  // namespace builtin_interfaces::msg

namespace rclcpp {

/// What a test sends and gets: by topic, any message.
struct Bus {
    static inline std::map<std::string, std::function<void(std::shared_ptr<const void>)>> subscribers;
    static inline std::map<std::string, std::vector<std::shared_ptr<const void>>> published;
    static inline std::vector<std::string> warnings;
    static inline std::int64_t now_ns = 0;
};

class Duration {
  public:
    static Duration from_seconds(double seconds) { return Duration(static_cast<std::int64_t>(seconds * 1e9)); }
    explicit Duration(std::int64_t ns) : ns(ns) {}
    std::int64_t nanoseconds() const { return ns; }

  private:
    std::int64_t ns;
};

class Time {
  public:
    explicit Time(std::int64_t ns) : ns(ns) {}
    explicit Time(const builtin_interfaces::msg::Time &time) : ns(time.sec * INT64_C(1000000000) + time.nanosec) {}
    std::int64_t nanoseconds() const { return ns; }

  private:
    std::int64_t ns;
};

struct QoS {
    QoS(int) {}  // NOLINT: rclcpp's is implicit too
};
struct SensorDataQoS : QoS {
    SensorDataQoS() : QoS(5) {}
};
struct Logger {};
struct Clock {};

using Parameter = std::variant<std::string, double, std::int64_t>;
struct NodeOptions {
    std::map<std::string, Parameter> parameters;
};

template <class Message>
class Publisher {
  public:
    using SharedPtr = std::shared_ptr<Publisher>;
    explicit Publisher(std::string topic) : topic(std::move(topic)) {}
    void publish(const Message &message) { Bus::published[topic].push_back(std::make_shared<Message>(message)); }

  private:
    std::string topic;
};

template <class Message>
class Subscription {
  public:
    using SharedPtr = std::shared_ptr<Subscription>;
};

class Node {
  public:
    Node(const std::string &, const NodeOptions &options) : parameters(options.parameters) {}
    virtual ~Node() = default;

    template <class Value>
    Value declare_parameter(const std::string &name, const Value &value) {
        const auto given = parameters.find(name);
        return given == parameters.end() ? value : std::get<Value>(given->second);
    }
    template <class Message, class Callback>
    typename Subscription<Message>::SharedPtr create_subscription(const std::string &topic, const QoS &,
                                                                  Callback callback) {
        Bus::subscribers[topic] = [callback](std::shared_ptr<const void> message) {
            callback(std::static_pointer_cast<const Message>(message));
        };
        return std::make_shared<Subscription<Message>>();
    }
    template <class Message>
    typename Publisher<Message>::SharedPtr create_publisher(const std::string &topic, const QoS &) {
        return std::make_shared<Publisher<Message>>(topic);
    }
    Time now() const { return Time(Bus::now_ns); }
    Logger get_logger() const { return {}; }
    std::shared_ptr<Clock> get_clock() const { return std::make_shared<Clock>(); }

  private:
    std::map<std::string, Parameter> parameters;
};

inline void warn(const Logger &, const Clock &, int, const char *, const char *line) {
    Bus::warnings.emplace_back(line);
}

}  // namespace rclcpp

#define RCLCPP_WARN_THROTTLE(...) rclcpp::warn(__VA_ARGS__)
