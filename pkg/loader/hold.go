package loader

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// hold is what keeps a program on an interface when no process does: a pinned link, or a filter of the
// interface's clsact queueing discipline.
type hold interface {
	whereabouts() (whereabouts, error)
	// on tells whether the hold is on this interface of this thread's network namespace.
	on(iface netlink.Link) (bool, error)
	// update swaps the program: one packet meets the old one, the next the new one.
	update(p *ebpf.Program) error
	// release takes the program off the interface, and the hold out of the state directory; as long as it
	// is open, repin puts one back there that has nothing on an interface.
	release() error
	repin() error
	close()
}

var (
	_ hold = (*linkHold)(nil)
	_ hold = (*filterHold)(nil)
)

// whereabouts is what a hold does at one moment.
type whereabouts struct {
	index   int            // of the interface, in its own network namespace; 0 once it has vanished
	program ebpf.ProgramID // that packets meet there; 0: somebody took it off, or there is no telling
	unknown bool           // there is no telling: the network namespace is out of reach
}

// linkHold is a pinned link. The kernel frees it, and so detaches, with its last pin and descriptor.
type linkHold struct {
	link.Link
	path string
	hook Hook
}

func (h *linkHold) whereabouts() (whereabouts, error) {
	info, err := h.Info()
	if err != nil {
		return whereabouts{}, fmt.Errorf("read the link: %w", err)
	}
	index, err := linkIndex(info)
	return whereabouts{index: index, program: info.Program}, err
}

// on compares programs or links beside the index: an interface that moved to another network namespace
// takes its link along, and its index may be another interface's here.
func (h *linkHold) on(iface netlink.Link) (bool, error) {
	info, err := h.Info()
	if err != nil {
		return false, fmt.Errorf("read the link: %w", err)
	}
	index, err := linkIndex(info)
	if err != nil || index == 0 || index != iface.Attrs().Index {
		return false, err
	}
	if h.hook == HookXDP {
		xdp := iface.Attrs().Xdp
		return xdp != nil && xdp.ProgId == uint32(info.Program), nil
	}
	return linkIsOn(info.ID, h.hook, index)
}

func linkIsOn(id link.ID, hook Hook, index int) (bool, error) {
	t, err := hook.traits()
	if err != nil {
		return false, err
	}
	all, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: t.tcx})
	if err != nil {
		return false, fmt.Errorf("list the programs at %s: %w", hook, explain(err))
	}
	for _, p := range all.Programs {
		if on, ok := p.LinkID(); ok && on == id {
			return true, nil
		}
	}
	return false, nil
}

func (h *linkHold) update(p *ebpf.Program) error { return h.Update(p) }
func (h *linkHold) repin() error                 { return h.Pin(h.path) }
func (h *linkHold) close()                       { h.Link.Close() }

// release detaches before it unpins: the kernel would detach a link that nobody holds, but some time
// later.
func (h *linkHold) release() error {
	if err := h.Detach(); err != nil {
		return err
	}
	return h.Unpin()
}

// linkIndex is the index of the interface that a link is on; 0 once it has vanished.
func linkIndex(info *link.Info) (int, error) {
	if xdp := info.XDP(); xdp != nil {
		return int(xdp.Ifindex), nil
	}
	if tcx := info.TCX(); tcx != nil {
		return int(tcx.Ifindex), nil
	}
	return 0, fmt.Errorf("%w: the pinned link is of type %v, want XDP or TCX", ErrIncompatible, info.Type)
}

// openHold opens what holds an attachment's program. Its pin is named by the mode, which the kernel
// tells only to those in the interface's network namespace.
func (d *StateDir) openHold(id attachmentID) (hold, Mode, error) {
	for mode, pin := range linkPins {
		path := d.pin(id.String(), pin)
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			continue
		}
		if mode == ModeClsAct {
			h, err := d.openFilter(id)
			return h, mode, err
		}
		l, err := link.LoadPinnedLink(path, nil)
		if errors.Is(err, os.ErrNotExist) {
			continue // detached since
		}
		if err != nil {
			return nil, mode, fmt.Errorf("open the pinned link of %s: %w (run: weir detach %s)", id.iface, explain(err), id.iface)
		}
		return &linkHold{Link: l, path: path, hook: id.hook}, mode, nil
	}
	return nil, "", fmt.Errorf("%s: %w", id, errUnattached)
}
