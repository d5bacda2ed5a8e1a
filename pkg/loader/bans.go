package loader

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

const (
	// MaxBans is how many bans there are room for, in each address family.
	MaxBans = 65536
	// MaxBanTime is the longest ban. What is to last longer belongs into the file, under deny.
	MaxBanTime = 365 * 24 * time.Hour
)

var (
	// ErrNotBanned says that there is no ban of just that prefix.
	ErrNotBanned = errors.New("not banned")
	// ErrTooManyBans says that there is no room for another ban.
	ErrTooManyBans = errors.New("too many bans")
)

// Ban is a timed ban, at the moment at which it was read.
type Ban struct {
	Prefix netip.Prefix
	// Left is how long the ban lasts yet. It is counted in time that the machine is not suspended.
	Left time.Duration
	// Effective is how long packets of the prefix are dropped: Left, or longer if a wider ban is.
	Effective time.Duration
}

// Ban drops every packet from prefix for a duration, from now on, on every interface. A ban of the same
// prefix is replaced, be it longer or shorter; replaced is what was left of it, 0 if there was none.
// It fails with [ErrNothingAttached] if there is no program that could drop them, and with
// [ErrTooManyBans].
func (d *StateDir) Ban(prefix netip.Prefix, duration time.Duration) (replaced time.Duration, err error) {
	if err := checkBanPrefix(prefix); err != nil {
		return 0, err
	}
	if duration <= 0 || duration > MaxBanTime {
		return 0, fmt.Errorf("ban %s for %s: want more than 0 and at most %s", prefix, duration, MaxBanTime)
	}
	err = d.changeBans(prefix.Addr().Is4(), func(b *banFamily) error {
		now := sinceBoot()
		replaced = max(0, time.Duration(b.index[prefix].OwnUntil)-now)
		return b.add(prefix, now, now+duration)
	})
	if err != nil {
		return 0, fmt.Errorf("ban %s: %w", prefix, err)
	}
	return replaced, nil
}

// Unban lets packets from prefix pass again, as far as no other ban covers them. It fails with
// [ErrNotBanned] unless there is a ban of just that prefix.
func (d *StateDir) Unban(prefix netip.Prefix) error {
	if err := checkBanPrefix(prefix); err != nil {
		return err
	}
	err := d.changeBans(prefix.Addr().Is4(), func(b *banFamily) error {
		now := uint64(sinceBoot())
		if own, ok := b.index[prefix]; ok && own.OwnUntil > now {
			return b.remove(prefix)
		}
		if wider, ok := b.index.wider(prefix, now); ok {
			return fmt.Errorf("%w by itself: %s covers it (run: weir unban %s)", ErrNotBanned, wider, wider)
		}
		return fmt.Errorf("%w (weir bans lists them)", ErrNotBanned)
	})
	if err != nil {
		return fmt.Errorf("unban %s: %w", prefix, err)
	}
	return nil
}

// Bans lists what is banned now, IPv4 first, by address. It fails with [ErrNothingAttached] if nothing
// can be.
func (d *StateDir) Bans() (_ []Ban, err error) {
	m, err := d.openBans()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	var all []Ban
	for _, is4 := range []bool{true, false} {
		b, err := m.family(is4)
		if err != nil {
			return nil, fmt.Errorf("read the bans: %w", err)
		}
		now := sinceBoot()
		for prefix, v := range b.index {
			if left := time.Duration(v.OwnUntil) - now; left > 0 {
				all = append(all, Ban{Prefix: prefix, Left: left, Effective: time.Duration(v.EffectiveUntil) - now})
			}
		}
	}
	slices.SortFunc(all, func(a, b Ban) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
	return all, nil
}

// SweepBans removes the bans that are over, which the kernel ignores, and tells how many there were.
// With the last ban of a family the kernel stops looking for one.
func (d *StateDir) SweepBans() (removed int, err error) {
	for _, is4 := range []bool{true, false} {
		err := d.changeBans(is4, func(b *banFamily) error {
			n, err := b.sweep(uint64(sinceBoot()))
			removed += n
			return err
		})
		if err != nil {
			return removed, fmt.Errorf("sweep the bans: %w", err)
		}
	}
	return removed, nil
}

func (d *StateDir) changeBans(is4 bool, change func(*banFamily) error) (err error) {
	m, err := d.openBans()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	b, err := m.family(is4)
	if err != nil {
		return err
	}
	return change(b)
}

func checkBanPrefix(p netip.Prefix) error {
	if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
		return fmt.Errorf("ban of %s: want a prefix without host bits, IPv4 in its own form", p)
	}
	return nil
}
