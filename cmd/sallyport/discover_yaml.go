package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// config writes sallyport.yaml.
func (s *starter) config() string {
	var b strings.Builder
	put := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	put("# A starter, of what `sallyport discover` saw from %s to %s.", s.inv.Since.Format(time.RFC3339), s.inv.Until.Format(time.RFC3339))
	put("# docs/operations.md explains each field. Nothing is enforced with it: connections")
	put("# are recorded, and relayed whoever they are from. Read the record, give the")
	put("# workloads their tokens, and then change this line.")
	put("enforcement: observe\n")
	put("interception:")
	put("  mode: host")
	s.forwarders(put)
	put("\nresources:")
	for _, r := range s.resources {
		put("  - name: %q", r.name)
		put("    protocol: %s", r.protocol)
		var list []string
		for _, a := range r.addresses {
			list = append(list, fmt.Sprintf("%q", a))
		}
		if list != nil {
			put("    addresses: [%s]", strings.Join(list, ", "))
		}
		for i := range r.paths {
			r.paths[i] = fmt.Sprintf("%q", r.paths[i])
		}
		switch {
		case r.paths == nil:
		case list == nil:
			put("    unix: [%s]", strings.Join(r.paths, ", "))
		default:
			put("    # Reached by these too; see Unix sockets in docs/operations.md.")
			put("    # unix: [%s]", strings.Join(r.paths, ", "))
		}
		put("    # Needed once the policy says what may be done, and to what.")
		put("    # catalog: {user: sallyport_catalog, password_file: catalog.password}")
	}
	s.elsewhere(put)
	put("\nidentity:")
	put("  # Whose tokens are believed. Required before anything is enforced.")
	put("  # issuers: [{url: https://login.example.com, audience: sallyport}]")
	s.identities(put)
	return b.String()
}

func (s *starter) identities(put func(string, ...any)) {
	if len(s.workloads) == 0 {
		put("  # Nobody was seen to reach a resource.")
		put("  workloads: []")
		return
	}
	put("  # Who was seen to reach a resource. The subjects are made up: name those of")
	put("  # their tokens. One that should not be there: leave it out, it will be refused.")
	put("  workloads:")
	for _, w := range s.workloads {
		put("    # %d connections to %s", w.connections, strings.Join(w.resources, ", "))
		put("    - name: %q", w.name)
		match := fmt.Sprintf("uid: %d", w.uid)
		if w.exe != "" {
			match += fmt.Sprintf(", exe: %q", w.exe)
		}
		if w.container {
			put("      # Of this very container: match it by container.name or kubernetes instead.")
		}
		if w.cgroup != "" {
			match = fmt.Sprintf("cgroup: %q, ", w.cgroup) + match
		}
		put("      match: {%s}", match)
		put("      subjects: [%q]", w.name)
	}
}

// forwarders writes rulings for the known ones whose resource is plain, and
// names the others.
func (s *starter) forwarders(put func(string, ...any)) {
	var ruled, named []string
	taken := map[string]bool{}
	for i := range s.inv.Forwarders {
		f := &s.inv.Forwarders[i]
		r := s.behind(f)
		if !f.Known || r == nil || f.Exe == "" || taken[f.Exe+f.Cgroup] {
			var to []string
			for _, u := range f.Reaches {
				to = append(to, u.Target)
			}
			named = append(named, comment(fmt.Sprintf("%s (uid %d, %s): %s -> %s", f.Exe, f.UID, f.Cgroup, strings.Join(f.Listens, ", "), strings.Join(to, ", "))))
			continue
		}
		taken[f.Exe+f.Cgroup] = true
		var listens []string
		for _, a := range s.expand(f.Listens) {
			if have := s.resourceOf(a.String()); have != nil {
				listens = append(listens, fmt.Sprintf("%q", a))
			}
		}
		who := fmt.Sprintf("exe: %q", f.Exe)
		if f.Cgroup != "" && f.Cgroup != "/" && f.Container == "" {
			who = fmt.Sprintf("cgroup: %q, ", f.Cgroup) + who
		}
		ruled = append(ruled, fmt.Sprintf("    - {name: %q, %s, do: guard, listens: [%s]}", fmt.Sprintf("forwarder-%d", len(ruled)+1), who, strings.Join(listens, ", ")))
	}
	if ruled != nil {
		put("  # They carry the connections of others: what they listen at is protected, and")
		put("  # they themselves are covered, so they need a workload of their own. do: exempt")
		put("  # lets their cgroup through instead (docs/operations.md, Forwarders).")
		put("  forwarders:")
		for _, r := range ruled {
			put("%s", r)
		}
	}
	if named != nil {
		put("  # These listen and reach a database, or are known to carry connections. Look")
		put("  # whether agents can reach a database through them:")
		for _, n := range named {
			put("  #   %s", n)
		}
	}
}

// elsewhere names databases that this sallyport does not speak with.
func (s *starter) elsewhere(put func(string, ...any)) {
	seen := map[string]bool{}
	var list []string
	for i := range s.inv.Contacts {
		c := &s.inv.Contacts[i]
		if line := comment(c.Protocol + " at " + c.Target()); c.Database() && !s.serves(c.Service) && !seen[line] {
			seen[line] = true
			list = append(list, line)
		}
	}
	if list == nil {
		return
	}
	slices.Sort(list)
	put("  # Seen, and not protected: this sallyport does not speak")
	for _, l := range list {
		put("  #   %s", l)
	}
}

// policy writes policy.yaml: everything for those who were seen, to be narrowed.
func (s *starter) policy() string {
	var b strings.Builder
	put := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	put("# A starter: who was seen may go on with what they do, and nobody else may do")
	put("# anything. docs/policy.md is the manual. Narrow each rule to what the record")
	put("# shows (commands: read, relations: [schema.*]); that needs the resource's catalog.")
	put("rules:")
	n := 0
	for _, w := range s.workloads {
		for _, r := range w.resources {
			n++
			put("  - name: %q", fmt.Sprintf("%s at %s", w.name, r))
			put("    identity: {workload: %q}", w.name)
			put("    resource: %q", r)
			put("    commands: \"*\"")
			put("    relations: \"*\"")
			put("    effect: allow")
		}
	}
	if n == 0 {
		put("  # Nobody was seen: what clients ask of the catalog may be asked by all who have")
		put("  # an identity.")
		put("  - name: catalogs")
		put("    identity: \"*\"")
		put("    resource: \"*\"")
		put("    commands: [select]")
		put("    relations: [pg_catalog.*, information_schema.*]")
		put("    effect: allow")
	}
	return b.String()
}
