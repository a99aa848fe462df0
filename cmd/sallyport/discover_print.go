package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/intercept/discover"
)

// printInventory prints three tables and what they do not hold.
func printInventory(w io.Writer, inv *discover.Inventory) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(cells ...string) {
		for i := range cells {
			cells[i] = render.Line(cells[i])
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	row("CONNECTS", "UID", "WHERE", "NETNS", "TO", "PROTOCOL", "CONNECTIONS", "LAST")
	for i := range inv.Contacts {
		c := &inv.Contacts[i]
		row(who(&c.Process), fmt.Sprint(c.UID), where(&c.Process), fmt.Sprint(c.NetNS), c.Target(), protocol(c.Service), fmt.Sprint(c.Connections), c.Last.Local().Format(time.TimeOnly))
	}
	row("")
	row("LISTENS", "UID", "WHERE", "NETNS", "AT", "PROTOCOL")
	for i := range inv.Listeners {
		l := &inv.Listeners[i]
		row(who(&l.Process), fmt.Sprint(l.UID), where(&l.Process), fmt.Sprint(l.NetNS), l.Target(), protocol(l.Service))
	}
	if len(inv.Forwarders) > 0 {
		row("")
		row("FORWARDS", "UID", "WHERE", "NETNS", "FROM", "TO", "TOLD BY")
	}
	for i := range inv.Forwarders {
		f := &inv.Forwarders[i]
		var to []string
		for _, u := range f.Reaches {
			to = append(to, strings.TrimSpace(u.Target+" "+u.Protocol))
		}
		told := "its sockets"
		if f.Known {
			told = "its name"
		}
		row(who(&f.Process), fmt.Sprint(f.UID), where(&f.Process), fmt.Sprint(f.NetNS), strings.Join(f.Listens, ", "), cmp.Or(strings.Join(to, ", "), "-"), told)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%s to %s: %d kinds of connections", inv.Since.Local().Format(time.DateTime), inv.Until.Local().Format(time.DateTime), len(inv.Contacts))
	if inv.Missed > 0 {
		fmt.Fprintf(w, "; NOT COUNTED: %d connections of kinds that found no room", inv.Missed)
	}
	if inv.Untold > 0 {
		fmt.Fprintf(w, "; %d kinds were counted, but their processes could not be looked at", inv.Untold)
	}
	fmt.Fprintln(w)
	for _, p := range inv.Problems {
		fmt.Fprintln(w, "not looked at:", render.Line(p))
	}
	return nil
}

func who(p *discover.Process) string {
	switch {
	case p.Exe != "":
		return p.Exe
	case p.Comm != "":
		return "(" + p.Comm + ", ended)"
	}
	return "(not known)"
}

func where(p *discover.Process) string {
	if p.Container != "" {
		return "container " + cmp.Or(p.Workload, p.Container[:12])
	}
	return cmp.Or(p.Unit, p.Cgroup, "-")
}

func protocol(s discover.Service) string {
	if s.Protocol == "" {
		return "-"
	}
	return fmt.Sprintf("%s (%s)", s.Protocol, s.Basis)
}
