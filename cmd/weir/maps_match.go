package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/weir-limiter/weir/pkg/loader"
)

func dumpDocument(e *env, d *loader.StateDir, _ int) error {
	all, err := d.Documents()
	if err != nil {
		return err
	}
	type view struct {
		loader.Owner
		Document any `json:"document"`
	}
	views := []view{}
	for _, one := range all {
		views = append(views, view{one.Owner, one.Document})
	}
	var texts []string
	for _, v := range views {
		data, err := json.MarshalIndent(v.Document, "", "  ")
		if err != nil {
			return fmt.Errorf("show the document of %s: %w", ownerText(v.Owner), err)
		}
		texts = append(texts, string(data))
	}
	return e.show(map[string]any{"attachments": views}, func(p *page) {
		for i, v := range views {
			p.printf("%s\n%s\n", p.paint(bold, ownerText(v.Owner)), texts[i])
		}
	})
}

func dumpSources(e *env, d *loader.StateDir, limit int, is4 bool) error {
	all, err := d.Sources(is4)
	if err != nil {
		return err
	}
	rest := 0
	for i := range all {
		rest += len(all[i].Rules)
		all[i].Rules = limited(all[i].Rules, limit)
		rest -= len(all[i].Rules)
	}
	return e.show(map[string]any{"attachments": all}, func(p *page) {
		g := grid{columns: columns("AT", "PREFIX", "LIST", "SATISFIES MATCH.SOURCES OF")}
		for _, one := range all {
			for _, r := range one.Rules {
				g.add(text(ownerText(one.Owner)), text(r.Prefix.String()), text(r.List), text(strings.Join(r.Policies, ", ")))
			}
		}
		if len(g.rows) == 0 {
			p.printf("no policy and no list names a prefix of this family\n")
			return
		}
		g.write(p)
		writeRest(p, rest, "are named")
	})
}

func dumpPorts(e *env, d *loader.StateDir, _ int) error {
	all, err := d.Ports()
	if err != nil {
		return err
	}
	return e.show(map[string]any{"attachments": all}, func(p *page) {
		g := grid{columns: columns("AT", ">PORTS", "SATISFY MATCH.PORTS OF")}
		for _, one := range all {
			for _, r := range one.Rules {
				g.add(text(ownerText(one.Owner)), text(portsText(r)), text(strings.Join(r.Policies, ", ")))
			}
		}
		if len(g.rows) == 0 {
			p.printf("no policy asks for a port\n")
			return
		}
		g.write(p)
	})
}

func portsText(r loader.PortRule) string {
	if r.First == r.Last {
		return fmt.Sprint(r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}
