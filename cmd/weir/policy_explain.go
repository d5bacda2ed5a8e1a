package main

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// packetFlags describe a packet on the command line.
type packetFlags struct {
	source, protocol, iface, direction string
	port                               uint16
	fragment                           bool
}

func newPolicyExplainCommand(e *env) *cobra.Command {
	var f packetFlags
	var r requestFlags
	var file, key string
	cmd := &cobra.Command{
		Use:   "explain {--src ADDR --proto NAME [--dport PORT] --iface IFACE | --ip ADDR --method NAME --endpoint PATH ...}",
		Short: "Tell which policies apply to a packet or a request, in which order, and why the others do not",
		Long: `Tell what would become of a packet or of a request of layer 7: which list decides over it or, if none does,
which policies are charged, in the order of evaluation, and for each of the others why it is not. It passes
if every policy that is charged and enforces admits it. Nothing is charged: to do that is for weir check.

The policies are those in force, or with -c those of a file.

A packet is told by --src, --proto, --dport, --iface, --direction and --fragment. The source is the remote end
and the port the local one: of a packet that goes out, its destination and its source port.

A request is told by --ip, --method, --endpoint, --user, --role, --api-key-file, --metadata and --key, as far as
they are known. Of each policy that is charged it is shown which of its buckets is.`,
		Example: `  weir policy explain --src 203.0.113.7 --proto udp --dport 53 --iface eth0
  weir policy explain --src 2001:db8::7 --proto icmpv6 --iface eth0 --direction egress -c weir.yaml
  weir policy explain --ip 203.0.113.7 --method POST --endpoint /login
  weir policy explain --user alice --role premium --metadata tenant=acme -c weir.yaml -o json`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ofRequest := given(cmd, append(requestFlagNames, "key")...)
			ofPacket := given(cmd, "src", "proto", "dport", "iface", "direction", "fragment")
			switch {
			case len(ofRequest) > 0 && len(ofPacket) > 0:
				return usagef("%s describes a request, and %s a packet: %s belong together, and so do %s", ofRequest[0], ofPacket[0],
					"--ip, --method, --endpoint, --user, --role, --api-key, --api-key-file, --metadata and --key",
					"--src, --proto, --dport, --iface, --direction and --fragment")
			case len(ofRequest) > 0:
				return explainRequest(cmd.Context(), e, &r, key, file)
			}
			packet, err := f.packet(cmd.Flags().Changed("dport"))
			if err != nil {
				return err
			}
			doc, bans, err := explained(cmd.Context(), e, file, packet)
			if err != nil {
				return err
			}
			lists := doc.Lists()
			lists.Bans = bans
			return explain(e, packet, policy.Classify(doc.Policies, lists, packet))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.source, "src", "", "address of the remote end")
	flags.StringVar(&f.protocol, "proto", "", "protocol, by its name or number")
	flags.Uint16Var(&f.port, "dport", 0, "local port")
	flags.StringVar(&f.iface, "iface", "", "interface that the packet takes")
	flags.StringVar(&f.direction, "direction", string(policy.DirectionIngress), "ingress or egress")
	flags.BoolVar(&f.fragment, "fragment", false, "a later fragment, which has no port to read")
	r.add(cmd)
	flags.StringVar(&key, "key", "", "what the caller names itself, as weir check's KEY")
	flags.StringVarP(&file, "config", "c", "", "explain the policies of this configuration file")
	completeWith(cmd, "direction", "ingress", "egress")
	_ = cmd.RegisterFlagCompletionFunc("iface", completeInterface) // fails only for a flag that is not there
	return cmd
}

// packet understands the flags.
func (f packetFlags) packet(hasPort bool) (policy.Packet, error) {
	packet := policy.Packet{Port: f.port, Interface: f.iface, Direction: policy.Direction(f.direction)}
	if f.source == "" || f.protocol == "" || f.iface == "" {
		return packet, usagef("want a packet, by --src, --proto and --iface, or a request, such as --ip 203.0.113.7 --endpoint /login")
	}
	var err error
	if packet.Source, err = parseSource(f.source); err != nil {
		return packet, err
	}
	number, ok := policy.ProtocolNumber(f.protocol)
	if !ok {
		return packet, usagef("--proto %s: want %s, or a number up to %d", f.protocol, strings.Join(policy.Protocols(), ", "), policy.MaxProtocol)
	}
	packet.Protocol = number
	if packet.Direction != policy.DirectionIngress && packet.Direction != policy.DirectionEgress {
		return packet, usagef("--direction %s: want ingress or egress", f.direction)
	}
	switch {
	case f.fragment && hasPort:
		return packet, usagef("--fragment has no --dport")
	case f.fragment:
		packet.PortState = policy.PortHidden
	case !policy.HasPorts(number) && hasPort:
		return packet, usagef("protocol %s has no ports: leave out --dport", policy.ProtocolName(number))
	case !policy.HasPorts(number):
		packet.PortState = policy.PortNone
	case !hasPort:
		return packet, usagef("protocol %s has ports: say which with --dport, or --fragment", policy.ProtocolName(number))
	default:
		packet.PortState = policy.PortKnown
	}
	return packet, nil
}

// explained finds the policies that a packet meets, and the bans.
func explained(ctx context.Context, e *env, file string, packet policy.Packet) (doc policy.Document, bans []netip.Prefix, err error) {
	if file != "" {
		c, err := config.Load(file)
		if err != nil {
			return doc, nil, err
		}
		return c.Document(), nil, nil
	}
	err = e.inspect(func(d *loader.StateDir, all []loader.Attachment) error {
		if len(all) == 0 {
			return nothingAttached(e)
		}
		there, err := programsOn(all, packet)
		if err != nil {
			return err
		}
		doc = loadedDocument(there)
		banned, err := listBans(d)
		for _, b := range banned {
			bans = append(bans, b.Prefix)
		}
		return err
	})
	if err != nil {
		return doc, nil, err
	}
	// The daemon knows what the programs were made of, and the policies that are not in the kernel.
	c, err := e.daemon(ctx)
	if err != nil || c == nil {
		return doc, bans, err
	}
	state, err := c.state(ctx)
	if err != nil || state.RequestsOnly {
		return doc, bans, err
	}
	return doc, bans, c.ask(ctx, http.MethodGet, "/v1/policies", nil, &doc)
}

// programsOn lists the attachments whose programs a packet meets.
func programsOn(all []loader.Attachment, packet policy.Packet) ([]loader.Attachment, error) {
	var there []loader.Attachment
	var places []string
	for _, a := range all {
		direction := config.Hook(a.Hook).Direction()
		if a.Interface == packet.Interface && direction == packet.Direction {
			there = append(there, a)
		}
		places = append(places, fmt.Sprintf("%s for %s", place(&a), direction))
	}
	if there == nil {
		return nil, fmt.Errorf("weir is not on %s for %s: such a packet passes (it is on: %s)",
			packet.Interface, packet.Direction, strings.Join(places, ", "))
	}
	return there, nil
}

// explainView is the JSON of weir policy explain. Scripts read it: add fields, rename none.
type explainView struct {
	Source    netip.Addr       `json:"source"`
	Protocol  string           `json:"protocol"`
	Port      *uint16          `json:"port"` // null: none, or not known
	Interface string           `json:"interface"`
	Direction policy.Direction `json:"direction"`
	// Verdict is pass or drop if lists or fragments decide, "limited" if buckets do.
	Verdict  string          `json:"verdict"`
	List     policy.List     `json:"list"`
	Prefix   *netip.Prefix   `json:"prefix"` // the entry of the list that decides
	Policies []explainedView `json:"policies"`
}

// explainedView is what one policy does with the packet.
type explainedView struct {
	Policy string        `json:"policy"`
	Mode   policy.Mode   `json:"mode"`
	Effect policy.Effect `json:"effect"`
	Reason string        `json:"reason,omitempty"`
	rate   string
}

func explain(e *env, packet policy.Packet, c policy.Classification) error {
	v := explainView{
		Source: packet.Source, Protocol: policy.ProtocolName(packet.Protocol), Interface: packet.Interface,
		Direction: packet.Direction, List: c.List, Policies: []explainedView{},
	}
	if packet.PortState == policy.PortKnown {
		v.Port = &packet.Port
	}
	if c.List != policy.ListNone {
		v.Prefix = &c.Prefix
	}
	for _, j := range c.Policies {
		v.Policies = append(v.Policies, explainedView{
			Policy: j.Policy.Name, Mode: j.Policy.Mode, Effect: j.Effect, Reason: j.Reason,
			rate: limitText(j.Policy, burst(j.Policy)),
		})
	}
	var sentence string
	v.Verdict, sentence = outcome(c)
	return e.show(v, func(p *page) { writeExplained(p, &v, sentence) })
}

// outcome says in a word and in a sentence what becomes of the packet.
func outcome(c policy.Classification) (verdict, sentence string) {
	for _, p := range c.Dropping() {
		if p.Mode == policy.ModeEnforce {
			return "drop", fmt.Sprintf("it is dropped, as %s wants fragments whose port is not known dropped", p.Name)
		}
	}
	var enforcing, watching []string
	for _, p := range c.Charged() {
		if p.Mode == policy.ModeEnforce {
			enforcing = append(enforcing, p.Name)
		} else {
			watching = append(watching, p.Name)
		}
	}
	switch {
	case c.List == policy.ListAllow:
		return "pass", fmt.Sprintf("it passes: %s is in allow", c.Prefix)
	case c.List == policy.ListDeny:
		return "drop", fmt.Sprintf("it is dropped: %s is in deny", c.Prefix)
	case c.List == policy.ListBan:
		return "drop", fmt.Sprintf("it is dropped: %s is banned", c.Prefix)
	case enforcing != nil:
		return "limited", "it passes if " + andList(enforcing) + " " + admits(len(enforcing)) + " it"
	case watching != nil:
		return "pass", "it passes, and is counted by " + andList(watching) + " in shadow"
	}
	return "pass", "it passes: no policy applies"
}

// andList joins names as a sentence does: a, b and c.
func andList(names []string) string {
	last := len(names) - 1
	if last < 1 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

func admits(n int) string {
	if n == 1 {
		return "admits"
	}
	return "admit"
}

func writeExplained(p *page, v *explainView, sentence string) {
	port := ""
	if v.Port != nil {
		port = fmt.Sprintf(", port %d", *v.Port)
	}
	p.printf("%s, %s%s, %s of %s: %s\n", v.Source, v.Protocol, port, v.Direction, v.Interface, p.paint(bold, sentence))
	if len(v.Policies) == 0 {
		return
	}
	p.printf("\n")
	g := grid{columns: columns("POLICY", "EFFECT", "")}
	for _, j := range v.Policies {
		why, looks := j.Reason, faint
		switch j.Effect {
		case policy.EffectCharge:
			why, looks = j.rate, green
		case policy.EffectDrop:
			looks = red
		}
		if j.Mode == policy.ModeShadow && j.Effect != policy.EffectNone {
			why += " (in shadow)"
		}
		g.add(text(j.Policy), cell{string(j.Effect), looks}, text(why))
	}
	g.write(p)
}
