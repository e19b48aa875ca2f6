#pragma once
#include <functional>
#include <memory>

namespace message_filters {

template <class Message>
class MessageEvent {
  public:
    explicit MessageEvent(std::shared_ptr<Message> message) : message(std::move(message)) {}
    std::shared_ptr<Message> getMessage() const { return message; }

  private:
    std::shared_ptr<Message> message;
};

/// Gives everything to its policy, as message_filters' does.
template <class Policy>
class Synchronizer : public Policy {
  public:
    explicit Synchronizer(const Policy &policy) : Policy(policy) {}
    template <class Callback>
    void registerCallback(const Callback &callback) {
        Policy::callback = callback;
    }
};

}  // namespace message_filters
