package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

func newBucketCommand(e *env) *cobra.Command {
	cmd := group("bucket", "Look at one bucket of a policy, or fill it",
		`Look at one bucket of a policy, or fill it. KEY says which, by the policy's scope:

  per_ip        an address, 203.0.113.7; under a policy with a prefix, the whole prefix has one bucket
  per_endpoint  a protocol and a local port, udp/53 or 17/53; icmp for one without ports
  global        all, or -

All interfaces with a policy of that name share its buckets, but what comes in (xdp, tc-ingress) has other
ones than what goes out (tc-egress).

The buckets of a policy of layer l7 are in weir run, which is asked for them; one that nodes share is in
Redis, and to reset it fills it for all nodes. Their keys are those that weir policy explain shows:

  per_ip        an address
  per_user      the user
  per_api_key   the digest of the key, as explain makes it of --api-key-file
  per_endpoint  the pattern of match.endpoints, or without one the path
  custom        the text that the template makes: alice:/orders; where that can be read in two ways, the
                values of the fields, in their order, one a line: $'alice\n/orders'`)
	cmd.AddCommand(
		newBucketSubcommand(e, &cobra.Command{
			Use:     "get POLICY KEY",
			Short:   "Show the tokens in a bucket, and when the next one comes",
			Example: "  weir bucket get per-client 203.0.113.7\n  weir bucket get per-client 2001:db8::1 -o json\n  weir bucket get resolver udp/53 --direction ingress\n  weir bucket get per-user alice",
		}, getBucket, getRequestBucket),
		newBucketSubcommand(e, &cobra.Command{
			Use:     "reset POLICY KEY",
			Short:   "Fill a bucket, at once",
			Example: "  weir bucket reset per-client 203.0.113.7\n  weir bucket reset per-user alice",
		}, resetBucket, resetRequestBucket),
	)
	return cmd
}

// openBucket is a bucket that a command found, with the table that it is in.
type openBucket struct {
	table  *loader.Buckets
	policy *loader.LoadedPolicy
	places []string // the interfaces that draw on it
	key    bucketKey
}

// newBucketSubcommand is a command that does something to a bucket of the kernel, or of layer 7.
func newBucketSubcommand(
	e *env, cmd *cobra.Command, do func(*env, *openBucket) error, doRequest func(context.Context, *env, *requestBucket) error,
) *cobra.Command {
	var at placeChoice
	cmd.Args = exactArgs(2, "a policy and a key")
	cmd.ValidArgsFunction = completePolicy(e)
	cmd.Flags().StringVar(&at.iface, "interface", "", "whose policy of that name, if they differ between interfaces")
	cmd.Flags().StringVar((*string)(&at.direction), "direction", "", "ingress or egress, whose buckets are not the same, if the policy has both")
	_ = cmd.RegisterFlagCompletionFunc("interface", completeInterface) // fails only for a flag that is not there
	completeWith(cmd, "direction", "ingress", "egress")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := at.check(); err != nil {
			return err
		}
		r, err := e.requestBucket(cmd.Context(), args[0], args[1])
		switch {
		case err != nil:
			return err
		case r != nil && at != (placeChoice{}):
			return usagef("policy %s is of layer l7, whose buckets are at no interface: leave out --interface and --direction", args[0])
		case r != nil:
			return doRequest(cmd.Context(), e, r)
		}
		err = e.inspect(func(d *loader.StateDir, all []loader.Attachment) (err error) {
			if d == nil || len(all) == 0 {
				return nothingAttached(e)
			}
			b := &openBucket{}
			if b.policy, b.places, err = findPolicy(all, args[0], at); err != nil {
				return err
			}
			if b.key, err = parseBucketKey(b.policy.Policy, args[1]); err != nil {
				return err
			}
			if b.table, err = d.OpenBuckets(); err != nil {
				return err
			}
			return errors.Join(do(e, b), b.table.Close())
		})
		return e.unknownAnywhere(cmd.Context(), args[0], err)
	}
	return cmd
}

// bucketView is the JSON of weir bucket. Scripts read it: add fields, rename none.
type bucketView struct {
	Policy     string        `json:"policy"`
	Layer      policy.Layer  `json:"layer"`
	Scope      policy.Scope  `json:"scope"`
	Interfaces []string      `json:"interfaces"`
	Key        string        `json:"key"`
	Bucket     string        `json:"bucket"` // whose it is: a prefix, an endpoint or "all"
	Limit      uint64        `json:"limit"`
	Window     string        `json:"window"`
	Unit       policy.Unit   `json:"unit"`
	Burst      uint64        `json:"burst"`
	Found      bool          `json:"found"`
	Tokens     uint64        `json:"tokens"`
	Leased     uint64        `json:"leased"`  // held by CPUs, to be spent
	Next       time.Duration `json:"next_ns"` // until the next token; 0 if there is one
	Full       time.Duration `json:"full_ns"`
	Used       *uint32       `json:"used,omitempty"` // not known of layer 7
	Local      bool          `json:"local,omitempty"`
}

func (b *openBucket) view() bucketView {
	s := b.table.Bucket(b.policy, b.key.Key, loader.Now())
	p := b.policy
	return bucketView{
		Policy: p.Name, Layer: p.Layer, Scope: p.Scope, Interfaces: b.places, Key: b.key.text, Bucket: b.key.bucket,
		Limit: p.Limit, Window: p.Window.String(), Unit: p.Unit, Burst: p.Burst,
		Found: s.Found, Tokens: s.Tokens, Leased: s.Leased, Next: s.Next, Full: s.Full, Used: &s.Used,
	}
}

func getBucket(e *env, b *openBucket) error {
	v := b.view()
	return e.show(v, func(p *page) {
		g := fields("")
		g.field("policy", "%s: %s, burst %s, on %s", v.Policy, b.policy.Rate(), burst(b.policy.Policy), strings.Join(v.Interfaces, ", "))
		g.field("bucket", "%s", b.key)
		if v.Found {
			g.field("tokens", "%s of %s%s", thousands(v.Tokens), burst(b.policy.Policy), leased(v.Leased))
			g.field("next token", "%s", after(v.Next, "there is one"))
			g.field("full again", "%s", after(v.Full, "it is full"))
			g.field("used", "%s since it was given its entry", thousands(uint64(*v.Used)))
		} else {
			g.field("tokens", "%s of %[1]s: it has no entry in the table, and so a full bucket", burst(b.policy.Policy))
		}
		g.write(p)
	})
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
	b.table.ResetBucket(b.policy, b.key.Key, loader.Now())
	v := resetView{bucketView: b.view(), Before: before.Tokens}
	return e.show(v, func(p *page) { writeReset(p, &v, b.key.String(), before.Found) })
}

func writeReset(p *page, v *resetView, bucket string, found bool) {
	if !found {
		p.printf("%s: the bucket of %s was full already: it has no entry in the table\n", v.Policy, bucket)
		return
	}
	p.printf("%s: the bucket of %s is full; it had %s of %s tokens\n", v.Policy, bucket, thousands(v.Before), thousands(v.Burst))
}
