// Two cameras with OpenCV: `edgemtl-two-cameras BUNDLE RGB IR` shows boxes on the colour image until a key is pressed.
//
// RGB and IR are what cv::VideoCapture opens: 0, /dev/video2, rtsp://… Images are stamped when they arrive, and those
// that are nearest in time are run together. That is as good as the cameras' delays are equal: where a stamp must be
// the time of capture, whatever the delay (RTSP, B-frames, several rates), Python's runtime pairs them.
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <mutex>
#include <opencv2/opencv.hpp>
#include <optional>
#include <string>
#include <thread>

#include "edgemtl/edgemtl.hpp"

namespace {

constexpr std::int64_t TOLERANCE_NS = 30'000'000;

std::int64_t now_ns() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

struct Stamped {
    cv::Mat image;
    std::int64_t stamp_ns = 0;
};

/// Reads a camera in a thread of its own and keeps its last images.
class Camera {
  public:
    explicit Camera(const std::string &source) {
        const bool is_number = !source.empty() && source.find_first_not_of("0123456789") == source.npos;
        if (!(is_number ? capture.open(std::atoi(source.c_str())) : capture.open(source)))
            throw std::runtime_error(source + ": cannot be opened");
        capture.set(cv::CAP_PROP_BUFFERSIZE, 1);
        reader = std::thread([this] { read(); });
    }
    ~Camera() {
        stop = true;
        reader.join();
    }
    /// The last image, where it is newer than the one of `stamp_ns`.
    std::optional<Stamped> newer_than(std::int64_t stamp_ns) {
        const std::lock_guard<std::mutex> guard(lock);
        return frames.empty() || frames.back().stamp_ns <= stamp_ns ? std::nullopt : std::optional(frames.back());
    }
    /// The image that is nearest to a time, within the tolerance.
    std::optional<Stamped> nearest(std::int64_t stamp_ns) {
        const std::lock_guard<std::mutex> guard(lock);
        std::optional<Stamped> best;
        for (const Stamped &one : frames)
            if (std::llabs(one.stamp_ns - stamp_ns) <= (best ? std::llabs(best->stamp_ns - stamp_ns) : TOLERANCE_NS))
                best = one;
        return best;
    }
    bool ended() const { return over; }

  private:
    void read() {
        for (cv::Mat image; !stop && capture.read(image);) {
            const std::lock_guard<std::mutex> guard(lock);
            frames.push_back({image.clone(), now_ns()});
            if (frames.size() > 4) frames.pop_front();
        }
        over = true;
    }

    cv::VideoCapture capture;
    std::thread reader;
    std::mutex lock;
    std::deque<Stamped> frames;
    std::atomic<bool> stop{false}, over{false};
};

edgemtl::Image as_image(const char *camera, const Stamped &frame) {
    const edgemtl_pixels pixels = frame.image.channels() == 3     ? EDGEMTL_BGR8
                                  : frame.image.depth() == CV_16U ? EDGEMTL_GREY16
                                                                  : EDGEMTL_GREY8;
    return {camera, frame.image.data, frame.image.rows, frame.image.cols, frame.image.step[0], pixels, frame.stamp_ns};
}

void draw(cv::Mat &image, const edgemtl::Result &result, const edgemtl_head &head) {
    for (const edgemtl::Box &box : result.boxes(head.name)) {
        const cv::Point corner(static_cast<int>(box.x1), static_cast<int>(box.y1));
        cv::rectangle(image, corner, {static_cast<int>(box.x2), static_cast<int>(box.y2)}, {60, 220, 60}, 2);
        const std::string label = std::string(head.classes[box.class_index]) + cv::format(" %.2f", box.score);
        cv::putText(image, label, corner, cv::FONT_HERSHEY_SIMPLEX, 0.5, {60, 220, 60}, 1);
    }
}

}  // namespace

int main(int argc, char **argv) {
    if (argc != 4) {
        std::cerr << "usage: edgemtl-two-cameras BUNDLE RGB IR\n";
        return 2;
    }
    try {
        edgemtl::Network network(argv[1]);
        const std::vector<edgemtl_head> heads = network.heads();
        Camera rgb(argv[2]), ir(argv[3]);
        std::int64_t last_ns = 0;
        while (!rgb.ended() && !ir.ended() && cv::waitKey(1) < 0) {
            const std::optional<Stamped> colour = rgb.newer_than(last_ns);
            const std::optional<Stamped> thermal = colour ? ir.nearest(colour->stamp_ns) : std::nullopt;
            if (!thermal) continue;
            last_ns = colour->stamp_ns;
            const edgemtl::Result result = network.run({as_image("rgb", *colour), as_image("ir", *thermal)});
            cv::Mat shown = colour->image.clone();
            for (const edgemtl_head &head : heads)
                if (head.kind == EDGEMTL_BOXES) draw(shown, result, head);
            cv::imshow("edgemtl", shown);
        }
    } catch (const std::exception &error) {
        std::cerr << "edgemtl-two-cameras: " << error.what() << "\n";
        return 2;
    }
}
