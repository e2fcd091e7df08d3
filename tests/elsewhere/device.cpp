// A device that is not the processor, for machines without a graphics card: it computes on the processor, in memory of
// its own kind. A tensor here and one on the processor cannot meet in an operation, as with a real card; what is copied
// is copied on purpose. So a test that passes on it has put everything where the model is.

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/library.h>

#include <optional>
#include <unordered_map>
#include <vector>

namespace {

constexpr auto KIND = c10::DeviceType::PrivateUse1;
const c10::Device HERE(KIND, 0);

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    void* start = size ? c10::alloc_cpu(size) : nullptr;
    return {start, start, &c10::free_cpu, HERE};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &c10::free_cpu; }
  void copy_data(void* to, const void* from, size_t size) const override { std::memcpy(to, from, size); }
};

Memory memory;
REGISTER_ALLOCATOR(KIND, &memory);

// The guard that there is for devices without streams, but with a number: autograd asks for it.
struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return KIND; }
  c10::Device exchangeDevice(c10::Device) const override { return HERE; }
  c10::Device getDevice() const override { return HERE; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const noexcept override { return stream(); }
  c10::Stream getNewStream(c10::Device, int = 0) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return stream(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}

 private:
  static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, HERE); }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
};

// The same memory as a tensor of the processor, with the same place in it.
at::Tensor view_on_cpu(const at::Tensor& given) {
  auto options = at::TensorOptions().dtype(given.dtype()).device(c10::kCPU);
  void* start = const_cast<void*>(given.storage().data());
  if (start == nullptr) return at::empty_strided(given.sizes(), given.strides(), options);
  const auto items = static_cast<int64_t>(given.storage().nbytes() / given.itemsize());
  auto whole = at::from_blob(start, {items}, options);
  return whole.as_strided(given.sizes(), given.strides(), given.storage_offset());
}

void free_storage(void* held) { delete static_cast<c10::Storage*>(held); }

// A result that lies in memory of the processor becomes one of this device, without a copy.
at::Tensor take_over(const at::Tensor& found) {
  auto* held = new c10::Storage(found.storage());
  const size_t size = held->nbytes();
  c10::DataPtr start(held->mutable_data(), held, &free_storage, HERE);
  c10::Storage storage(c10::Storage::use_byte_size_t(), size, std::move(start), &memory, false);
  auto made = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), found.dtype());
  made.unsafeGetTensorImpl()->set_sizes_and_strides(found.sizes(), found.strides(), found.storage_offset());
  return made;
}

// A view: the storage of the argument that it looks into, other sizes.
at::Tensor look_into(const at::Tensor& source, const at::Tensor& found) {
  auto made = at::detail::make_tensor<c10::TensorImpl>(
      c10::TensorImpl::VIEW, c10::Storage(source.storage()), source.key_set(), found.dtype());
  made.unsafeGetTensorImpl()->set_sizes_and_strides(found.sizes(), found.strides(), found.storage_offset());
  return made;
}

struct Arguments {
  std::vector<at::Tensor> own;  // on this device, as they were given
  std::vector<at::Tensor> shadows;  // the same on the processor
  bool there = false;  // a tensor of the processor with more than one number

  at::Tensor shadow(const at::Tensor& given) {
    if (!given.defined()) return given;
    if (given.device().type() != KIND) {
      there = there || given.dim() > 0;
      return given;
    }
    own.push_back(given);
    shadows.push_back(view_on_cpu(given));
    return shadows.back();
  }

  c10::IValue shadow(const c10::IValue& given) {
    if (given.isTensor()) return shadow(given.toTensor());
    if (given.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor& one : given.toTensorVector()) list.push_back(shadow(one));
      return list;
    }
    if (given.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> list;
      for (const std::optional<at::Tensor>& one : given.toOptionalTensorList())
        list.push_back(one.has_value() ? std::optional<at::Tensor>(shadow(*one)) : std::nullopt);
      return list;
    }
    if (given.isDevice() && given.toDevice().type() == KIND) return c10::Device(c10::kCPU);
    return given;
  }

  // An empty tensor that an operation was given to write into has grown: take what it has become.
  void grow() const {
    for (size_t n = 0; n < own.size(); ++n) {
      if (own[n].sizes() == shadows[n].sizes()) continue;
      auto* impl = own[n].unsafeGetTensorImpl();
      impl->set_storage_keep_dtype(take_over(shadows[n]).storage());
      impl->set_sizes_and_strides(shadows[n].sizes(), shadows[n].strides(), shadows[n].storage_offset());
    }
  }

  // What a result is on this device; ``looks_into``: it is a view of the first argument, however small.
  at::Tensor back(const at::Tensor& found, bool looks_into = false) const {
    if (!found.defined()) return found;
    for (size_t n = 0; n < own.size(); ++n)
      if (shadows[n].unsafeGetTensorImpl() == found.unsafeGetTensorImpl()) return own[n];  // changed in place
    if (looks_into) return look_into(own.front(), found);
    for (size_t n = 0; n < own.size(); ++n)
      if (found.numel() && shadows[n].numel() && shadows[n].storage().data() == found.storage().data())
        return look_into(own[n], found);
    return take_over(found);
  }
};

void on_cpu(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  const size_t count = op.schema().arguments().size();
  auto given = torch::jit::last(*stack, count);
  Arguments arguments;
  std::vector<c10::IValue> shadows;
  for (const c10::IValue& one : given) shadows.push_back(arguments.shadow(one));
  TORCH_CHECK(
      !(arguments.there && !arguments.own.empty()), op.schema().operator_name(),
      ": expected all tensors to be on the same device, but found one on the processor and one elsewhere");
  torch::jit::drop(*stack, count);
  for (auto& one : shadows) stack->push_back(std::move(one));
  op.callBoxed(stack);
  arguments.grow();
  const size_t results = op.schema().returns().size();
  for (size_t n = 0; n < results; ++n) {
    c10::IValue& found = (*stack)[stack->size() - results + n];
    if (found.isTensor()) {
      const bool looks_into = op.schema().returns()[n].alias_info() && !arguments.own.empty();
      found = arguments.back(found.toTensor(), looks_into);
    } else if (found.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor& one : found.toTensorVector()) list.push_back(arguments.back(one));
      found = list;
    }
  }
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  auto here = [](const at::Tensor& one) { return one.device().type() == KIND ? view_on_cpu(one) : one; };
  here(to).copy_(here(from));
  return to;
}

const at::Tensor& resize(const at::Tensor& given, c10::SymIntArrayRef sizes, std::optional<c10::MemoryFormat>) {
  auto* impl = given.unsafeGetTensorImpl();
  impl->set_sizes_contiguous(C10_AS_INTARRAYREF_SLOW(sizes));
  const size_t wanted = (given.numel() + given.storage_offset()) * given.itemsize();
  if (wanted > given.storage().nbytes()) {
    auto fresh = memory.allocate(wanted);
    if (given.storage().nbytes()) std::memcpy(fresh.get(), given.storage().data(), given.storage().nbytes());
    given.storage().set_data_ptr_noswap(std::move(fresh));
    given.storage().unsafeGetStorageImpl()->set_nbytes(wanted);
  }
  return given;
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_cpu>()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("_copy_from", &copy_from);
  m.impl("resize_", &resize);
}

const bool registered = [] {
  at::RegisterPrivateUse1HooksInterface(new Hooks());
  return true;
}();

}  // namespace
