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
	if err := checkBan(prefix, duration); err != nil {
		return 0, err
	}
	err = d.changeBans(func(m *banMaps) (err error) {
		replaced, err = m.ban(prefix, duration)
		return err
	})
	return replaced, err
}

// Ban drops every packet from prefix for a duration, from now on, as [StateDir.Ban] does.
func (s *Standalone) Ban(prefix netip.Prefix, duration time.Duration) error {
	if err := checkBan(prefix, duration); err != nil {
		return err
	}
	return s.changeBans(func(m *banMaps) error {
		_, err := m.ban(prefix, duration)
		return err
	})
}

func (m *banMaps) ban(prefix netip.Prefix, duration time.Duration) (replaced time.Duration, err error) {
	b, err := m.family(prefix.Addr().Is4())
	if err == nil {
		now := sinceBoot()
		replaced = max(0, time.Duration(b.index[prefix].OwnUntil)-now)
		err = b.add(prefix, now, now+duration)
	}
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
	return d.changeBans(func(m *banMaps) error { return m.unban(prefix) })
}

// Unban lets packets from prefix pass again, as [StateDir.Unban] does.
func (s *Standalone) Unban(prefix netip.Prefix) error {
	if err := checkBanPrefix(prefix); err != nil {
		return err
	}
	return s.changeBans(func(m *banMaps) error { return m.unban(prefix) })
}

func (m *banMaps) unban(prefix netip.Prefix) error {
	b, err := m.family(prefix.Addr().Is4())
	if err == nil {
		err = b.lift(prefix, uint64(sinceBoot()))
	}
	if err != nil {
		return fmt.Errorf("unban %s: %w", prefix, err)
	}
	return nil
}

// lift removes the ban of just this prefix, if it is still in force.
func (b *banFamily) lift(prefix netip.Prefix, now uint64) error {
	if own, ok := b.index[prefix]; ok && own.OwnUntil > now {
		return b.remove(prefix)
	}
	if wider, ok := b.index.wider(prefix, now); ok {
		return fmt.Errorf("%w by itself: %s covers it (run: weir unban %s)", ErrNotBanned, wider, wider)
	}
	return fmt.Errorf("%w (weir bans lists them)", ErrNotBanned)
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
				all = append(all, Ban{Prefix: prefix, Left: left, Effective: time.Duration(v.Until) - now})
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
	err = d.changeBans(func(m *banMaps) error {
		for _, is4 := range []bool{true, false} {
			b, err := m.family(is4)
			if err != nil {
				return fmt.Errorf("sweep the bans: %w", err)
			}
			n, err := b.sweep(uint64(sinceBoot()))
			removed += n
			if err != nil {
				return fmt.Errorf("sweep the bans: %w", err)
			}
		}
		return nil
	})
	return removed, err
}

func (d *StateDir) changeBans(change func(*banMaps) error) error {
	m, err := d.openBans()
	if err != nil {
		return err
	}
	return errors.Join(change(m), m.close())
}

func (s *Standalone) changeBans(change func(*banMaps) error) error {
	m, err := s.shared.openBans()
	if err != nil {
		return err
	}
	return errors.Join(change(m), m.close())
}

func checkBan(prefix netip.Prefix, duration time.Duration) error {
	if err := checkBanPrefix(prefix); err != nil {
		return err
	}
	if duration <= 0 || duration > MaxBanTime {
		return fmt.Errorf("ban %s for %s: want more than 0 and at most %s", prefix, duration, MaxBanTime)
	}
	return nil
}

func checkBanPrefix(p netip.Prefix) error {
	if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
		return fmt.Errorf("ban of %s: want a prefix without host bits, IPv4 in its own form", p)
	}
	return nil
}
