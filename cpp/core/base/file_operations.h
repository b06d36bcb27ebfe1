// What file.h is made of, for formats that stage their own output: calls of the operating system
// with their errors, and the one way in which a staged folder takes its place.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "cpp/core/base/error.h"

namespace theriac {

// "cannot DOING 'PATH': REASON": kNotFound for ENOENT and ENOTDIR, else kIoError; "file" and
// "errno" in the details.
Error io_error(const std::string& doing, const std::filesystem::path& path, int number);
// open() with O_CLOEXEC, again after a signal. -1 on failure.
int open_retrying(const std::filesystem::path& path, int flags, mode_t mode = 0666);
// Owns what open() returned. Closing may fail unseen, which matters to writers only: they close
// themselves.
class Descriptor {
 public:
  explicit Descriptor(int number) noexcept : number_(number) {}
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  bool is_open() const noexcept { return number_ >= 0; }
  int get() const noexcept { return number_; }

 private:
  int number_;
};

// Whether an errno says that the file system or the kernel lacks an operation.
bool is_unsupported(int number) noexcept;

// The folder that holds `path`, "." where the path names none.
std::filesystem::path folder_of(const std::filesystem::path& path);
// Where a write to `target` really lands: through symbolic links, without a trailing slash. Throws
// kInvalidArgument for a target without a name.
std::filesystem::path resolved_target(const std::filesystem::path& target);
// ".name.0123456789abcdef.tmp" beside the target: same file system, so that rename is atomic.
std::filesystem::path temporary_beside(const std::filesystem::path& target);
// Marks an open temporary file or folder as in use for as long as the descriptor lives: a process
// that is killed lets go of it. Best effort, some file systems have no locks.
void claim_temporary(int descriptor) noexcept;
// Removes what killed writers of `target` left behind: temporary_beside's names, unclaimed and
// untouched for a minute. Call it once the target stands: until then one of them may be all there
// is of an old target. Never throws.
void sweep_temporaries(const std::filesystem::path& target) noexcept;
// Removes files of such names from a folder: what a process left that was killed while it wrote one.
void remove_temporaries(const std::filesystem::path& folder) noexcept;

// Makes an entry of a folder durable. Network and FUSE file systems that cannot are forgiven.
void sync_folder(const std::filesystem::path& folder);

// Throws where a folder may not be written as `target`: kAlreadyExists without `overwrite`, or when
// it is not empty and holds none of the files `markers` (no markers: any folder will do);
// kInvalidArgument when it is no folder.
void check_replaceable(const std::filesystem::path& target, bool overwrite,
                       std::span<const std::string_view> markers = {});
// Makes everything in `staged` durable and renames it to `target`, in one step where the file
// system can. An old target, only with `overwrite`, is removed afterwards. On failure both stay.
void publish_directory(const std::filesystem::path& staged, const std::filesystem::path& target,
                       bool overwrite);

}  // namespace theriac
