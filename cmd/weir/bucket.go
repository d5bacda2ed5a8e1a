package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

func newBucketCommand(e *env) *cobra.Command {
	cmd := group("bucket", "Look at the bucket of one source, or fill it",
		`Look at the bucket that a source has under a policy, or fill it. It is found by the source's address; under
a policy with a prefix, the whole prefix has one bucket. All interfaces with a policy of that name share it.`)
	cmd.AddCommand(
		newBucketSubcommand(e, &cobra.Command{
			Use:     "get POLICY KEY",
			Short:   "Show the tokens in a bucket, and when the next one comes",
			Example: "  weir bucket get per-client 203.0.113.7\n  weir bucket get per-client 2001:db8::1 -o json",
		}, getBucket),
		newBucketSubcommand(e, &cobra.Command{
			Use:     "reset POLICY KEY",
			Short:   "Fill a bucket, at once",
			Example: "  weir bucket reset per-client 203.0.113.7",
		}, resetBucket),
	)
	return cmd
}

// openBucket is a bucket that a command found, with the table that it is in.
type openBucket struct {
	table      *loader.Buckets
	policy     *loader.LoadedPolicy
	interfaces []string
	source     netip.Addr
}

func newBucketSubcommand(e *env, cmd *cobra.Command, do func(*env, *openBucket) error) *cobra.Command {
	var iface string
	cmd.Args = exactArgs(2, "a policy and an address")
	cmd.ValidArgsFunction = completePolicy(e)
	cmd.Flags().StringVar(&iface, "interface", "", "whose policy of that name, if they differ between interfaces")
	_ = cmd.RegisterFlagCompletionFunc("interface", completeInterface) // fails only for a flag that is not there
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		source, err := parseSource(args[1])
		if err != nil {
			return err
		}
		return e.inspect(func(d *loader.StateDir, all []loader.Attachment) error {
			if d == nil || len(all) == 0 {
				return nothingAttached(e)
			}
			b := &openBucket{source: source}
			if b.policy, b.interfaces, err = findPolicy(all, args[0], iface); err != nil {
				return err
			}
			if b.table, err = d.OpenBuckets(); err != nil {
				return err
			}
			return errors.Join(do(e, b), b.table.Close())
		})
	}
	return cmd
}

func parseSource(key string) (netip.Addr, error) {
	source, err := netip.ParseAddr(key)
	switch {
	case err != nil:
		return source, usagef("%q is not a key: want an IPv4 or IPv6 address, such as 203.0.113.7", key)
	case source.Zone() != "":
		return source, usagef("%q has a zone, which no packet carries: want %s", key, source.WithZone(""))
	}
	return source.Unmap(), nil
}

// bucketShape is what has to be equal for two interfaces to mean the same by a policy's bucket.
type bucketShape struct {
	limit, burst           uint64
	window                 time.Duration
	unit                   policy.Unit
	ipv4Prefix, ipv6Prefix uint8
}

func shapeOf(p *loader.LoadedPolicy) bucketShape {
	return bucketShape{p.Limit, p.Burst, p.Window, p.Unit, p.IPv4Prefix, p.IPv6Prefix}
}

// findPolicy finds a loaded policy by its name, and the interfaces that have it. Where interfaces
// disagree on what it is, the user has to say which is meant: the bucket is one, its meaning is not.
func findPolicy(all []loader.Attachment, name, iface string) (found *loader.LoadedPolicy, interfaces []string, err error) {
	var elsewhere []string
	for i := range all {
		a := &all[i]
		for j := range a.Policies {
			p := &a.Policies[j]
			switch {
			case p.Name != name:
				continue
			case iface != "" && iface != a.Interface && iface != place(a):
				elsewhere = append(elsewhere, place(a))
				continue
			case found != nil && shapeOf(found) != shapeOf(p):
				return nil, nil, fmt.Errorf("policy %s is %s with a burst of %d on %s, and %s with a burst of %d on %s (choose one with --interface)",
					name, found.Rate(), found.Burst, interfaces[0], p.Rate(), p.Burst, place(a))
			}
			found = p
			interfaces = append(interfaces, place(a))
		}
	}
	switch {
	case found != nil:
		return found, interfaces, nil
	case elsewhere != nil:
		return nil, nil, fmt.Errorf("no policy %q is loaded on %s (it is on: %s)", name, iface, strings.Join(elsewhere, ", "))
	}
	return nil, nil, unknownPolicy(name, loadedNames(all), "loaded")
}

// bucketView is the JSON of weir bucket. Scripts read it: add fields, rename none.
type bucketView struct {
	Policy     string        `json:"policy"`
	Interfaces []string      `json:"interfaces"`
	Key        netip.Addr    `json:"key"`
	Bucket     netip.Prefix  `json:"bucket"` // whose bucket it is
	Limit      uint64        `json:"limit"`
	Window     string        `json:"window"`
	Unit       policy.Unit   `json:"unit"`
	Burst      uint64        `json:"burst"`
	Found      bool          `json:"found"`
	Tokens     uint64        `json:"tokens"`
	Leased     uint64        `json:"leased"`  // held by CPUs, to be spent
	Next       time.Duration `json:"next_ns"` // until the next token; 0 if there is one
	Full       time.Duration `json:"full_ns"`
	Used       uint32        `json:"used"`
}

func (b *openBucket) view() bucketView {
	s := b.table.Bucket(b.policy, loader.Key{Source: b.source}, loader.Now())
	p := b.policy
	return bucketView{
		Policy: p.Name, Interfaces: b.interfaces, Key: b.source, Bucket: bucketPrefix(p.Policy, b.source),
		Limit: p.Limit, Window: p.Window.String(), Unit: p.Unit, Burst: p.Burst,
		Found: s.Found, Tokens: s.Tokens, Leased: s.Leased, Next: s.Next, Full: s.Full, Used: s.Used,
	}
}

// bucketPrefix is the network whose sources share the bucket of one of them.
func bucketPrefix(p policy.Policy, source netip.Addr) netip.Prefix {
	bits := p.IPv6Prefix
	if source.Is4() {
		bits = p.IPv4Prefix
	}
	return netip.PrefixFrom(source, int(bits)).Masked()
}

func getBucket(e *env, b *openBucket) error {
	v := b.view()
	return e.show(v, func(p *page) {
		g := fields("")
		g.field("policy", "%s: %s, burst %s, on %s", v.Policy, b.policy.Rate(), burst(b.policy.Policy), strings.Join(v.Interfaces, ", "))
		g.field("bucket", "%s", bucketText(v))
		if v.Found {
			g.field("tokens", "%s of %s%s", thousands(v.Tokens), burst(b.policy.Policy), leased(v.Leased))
			g.field("next token", "%s", after(v.Next, "there is one"))
			g.field("full again", "%s", after(v.Full, "it is full"))
			g.field("used", "%s since the source was given its entry", thousands(uint64(v.Used)))
		} else {
			g.field("tokens", "%s of %[1]s: the source has no entry in the table, and so a full bucket", burst(b.policy.Policy))
		}
		g.write(p)
	})
}

// bucketText says whose bucket it is, where that is more than the one address.
func bucketText(v bucketView) string {
	if v.Bucket.IsSingleIP() {
		return v.Key.String()
	}
	return fmt.Sprintf("%s (for %s)", v.Bucket, v.Key)
}

func leased(tokens uint64) string {
	if tokens == 0 {
		return ""
	}
	return fmt.Sprintf(", and %s that CPUs have leased", thousands(tokens))
}

func after(d time.Duration, now string) string {
	if d == 0 {
		return now
	}
	return "in " + span(d)
}

// resetView is the JSON of weir bucket reset.
type resetView struct {
	bucketView
	Before uint64 `json:"tokens_before"`
}

func resetBucket(e *env, b *openBucket) error {
	before := b.view()
	b.table.ResetBucket(b.policy, loader.Key{Source: b.source}, loader.Now())
	v := resetView{bucketView: b.view(), Before: before.Tokens}
	return e.show(v, func(p *page) {
		if !before.Found {
			p.printf("%s: the bucket of %s was full already: the source has no entry in the table\n", v.Policy, bucketText(v.bucketView))
			return
		}
		p.printf("%s: the bucket of %s is full; it had %s of %s tokens\n", v.Policy, bucketText(v.bucketView),
			thousands(v.Before), thousands(v.Burst))
	})
}
