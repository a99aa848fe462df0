package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/config"
)

// conduitOptions are the flags of a doctor that looks at a resource.
type conduitOptions struct {
	resource, database, server string
	passages                   []string
}

// conduit asks a database whom its access rules let in. The passage is the only
// way to it where that is nobody but the passage's accounts, from the passages'
// addresses.
func (o *conduitOptions) conduit(cmd *cobra.Command) ([]finding, error) {
	cfg, err := commandConfig(cmd)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(cfg.Resources, func(r config.Resource) bool { return r.Name == o.resource })
	if i < 0 {
		return nil, configError(fmt.Errorf("--resource %q: no such resource in %s", o.resource, cfg.Path))
	}
	r := &cfg.Resources[i]
	if r.Catalog == nil {
		return nil, configError(fmt.Errorf("%s: resource %s has no catalog, by whose role its access rules are read (resources[].catalog)", cfg.At("resources", i), r.Name))
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 30*time.Second)
	defer cancel()
	var l findings
	c, err := o.dial(ctx, cfg, r)
	l.check("database", "it was asked as "+r.Catalog.User, err,
		"see that the role may connect; where the guard covers this shell, name the folder of the server's unix socket, for example --server /run/postgresql")
	if err != nil {
		return l, nil
	}
	defer c.Close(context.WithoutCancel(ctx))
	l.order(ctx, cfg, o, r)
	from, err := o.passagesOf(ctx, c)
	l.check("passages", fmt.Sprint(from), err, "name the addresses from which the database sees passages: --passage 192.0.2.10")
	rules, rerr := accessRules(ctx, c)
	l.check("access rules", fmt.Sprintf("%d, read from pg_hba_file_rules", len(rules)), rerr,
		"as a superuser: GRANT SELECT ON pg_hba_file_rules TO "+r.Catalog.User+"; GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO "+r.Catalog.User)
	if err != nil || rerr != nil {
		return l, nil
	}
	l.loaded(ctx, c, rules)
	l.rules(rules, from, passageUsers(r))
	return l, nil
}

func (o *conduitOptions) dial(ctx context.Context, cfg *config.Config, r *config.Resource) (*pgconn.PgConn, error) {
	network, address, err := serverAddress(o.server, r)
	if err != nil {
		return nil, err
	}
	files, err := readTLS(cfg)
	if err != nil {
		return nil, err
	}
	up, err := newUpstreams(cfg, files, nil)
	if err != nil {
		return nil, err
	}
	pc, err := pgconn.ParseConfig("sslmode=disable")
	if err != nil {
		return nil, err
	}
	pc.Host, pc.Port, pc.User, pc.Database = "server", 5432, r.Catalog.User, o.database
	pc.DialFunc = up[r.Name].dialer(network, address)
	pc.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"server"}, nil }
	pc.Fallbacks = nil
	if f := r.Catalog.PasswordFile; f != "" {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		pc.Password = trimNewline(b)
	}
	return pgconn.ConnectConfig(ctx, pc)
}

// passagesOf are the addresses that were named, or the one from which the
// database sees this connection.
func (o *conduitOptions) passagesOf(ctx context.Context, c *pgconn.PgConn) (out []netip.Prefix, err error) {
	for _, s := range o.passages {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("--passage %q: must be an IP address", s)
		}
		out = append(out, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
	}
	if len(out) > 0 {
		return out, nil
	}
	res := c.ExecParams(ctx, "SELECT host(inet_client_addr())", nil, nil, nil, nil).Read()
	if res.Err != nil {
		return nil, res.Err
	}
	if len(res.Rows) != 1 || res.Rows[0][0] == nil {
		return nil, errors.New("the database was reached by its unix socket, so that it does not know this host's address")
	}
	a, err := netip.ParseAddr(string(res.Rows[0][0]))
	if err != nil {
		return nil, err
	}
	return []netip.Prefix{netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())}, nil
}

// passageUsers are the roles that only the passage logs in as; nil where agents
// log in themselves.
func passageUsers(r *config.Resource) []string {
	if !r.Brokered() {
		return nil
	}
	users := []string{r.Catalog.User}
	for _, a := range r.Accounts {
		users = append(users, string(a.User))
	}
	return users
}

// accessRule is a line of pg_hba.conf as the server reads it.
type accessRule struct {
	line                    string
	kind                    string // local, host, hostssl, hostnossl, hostgssenc, hostnogssenc
	databases, users        []string
	address, netmask        string
	method, wrong, asInFile string
}

func accessRules(ctx context.Context, c *pgconn.PgConn) (out []accessRule, err error) {
	res := c.ExecParams(ctx, `SELECT line_number, coalesce(type, ''), array_to_string(database, E'\n'), array_to_string(user_name, E'\n'),
		coalesce(address, ''), coalesce(netmask, ''), coalesce(auth_method, ''), coalesce(error, '') FROM pg_hba_file_rules ORDER BY line_number`,
		nil, nil, nil, nil).Read()
	if res.Err != nil {
		return nil, res.Err
	}
	for _, row := range res.Rows {
		s := func(i int) string { return string(row[i]) }
		r := accessRule{
			line: s(0), kind: s(1), databases: strings.Split(s(2), "\n"), users: strings.Split(s(3), "\n"),
			address: s(4), netmask: s(5), method: s(6), wrong: s(7),
		}
		r.asInFile = strings.Join(strings.Fields(strings.Join([]string{
			r.kind, strings.Join(r.databases, ","), strings.Join(r.users, ","), r.address, r.netmask, r.method,
		}, " ")), " ")
		out = append(out, r)
	}
	if len(out) == 0 {
		return nil, errors.New("the server shows none")
	}
	return out, nil
}

// rules holds each rule that lets somebody in against whom may be. A rule is
// judged by itself: one before it that refuses may be taken out.
func (l *findings) rules(all []accessRule, passages []netip.Prefix, users []string) {
	open := 0
	for _, r := range all {
		err := r.judge(passages, users)
		switch {
		case r.method == "reject" && r.wrong == "":
		case err != nil:
			open++
			l.check("pg_hba.conf line "+r.line, "", fmt.Errorf("%s: %w", r.asInFile, err), "take it out, or narrow it to the passage (docs/sole-conduit.md)")
		case r.kind == "local":
			l.note("pg_hba.conf line "+r.line, r.asInFile+": whoever has a shell on the database's own host may use it",
				"run no agent there, or guard that host too")
		case r.kind != "hostssl" && r.method != "cert":
			l.note("pg_hba.conf line "+r.line, r.asInFile+": it lets the passage in without TLS too", "write hostssl")
		}
	}
	if open == 0 {
		l.check("sole conduit", fmt.Sprintf("every rule that lets somebody in is for %s from %v", whom(users), passages), nil, "")
	}
}

func whom(users []string) string {
	if users == nil {
		return "those who come through the passage"
	}
	return "the passage's own roles"
}

// judge returns why somebody could go round the passage by the rule.
func (r *accessRule) judge(passages []netip.Prefix, users []string) error {
	switch {
	case r.wrong != "":
		return fmt.Errorf("the server can't read it (%s), so that other rules than these may be in force", r.wrong)
	case r.method == "reject":
		return nil
	case r.method == "trust":
		return errors.New("it asks for no credential")
	case r.kind == "local":
		return nil
	case r.method == "ident" || r.method == "password" && r.kind != "hostssl":
		return fmt.Errorf("method %s shows, or believes, what anybody on the way can see or say", r.method)
	}
	p, err := r.prefix()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(passages, func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) }) {
		return fmt.Errorf("it lets in addresses that are not the passage's (%s)", p)
	}
	for _, u := range r.users {
		if users != nil && !slices.Contains(users, u) {
			return fmt.Errorf("it lets in %s, who is not of the passage's roles", u)
		}
	}
	return nil
}

// prefix is the rule's address and mask.
func (r *accessRule) prefix() (netip.Prefix, error) {
	a, err := netip.ParseAddr(r.address)
	m, merr := netip.ParseAddr(r.netmask)
	if err != nil || merr != nil || a.Is4() != m.Is4() {
		return netip.Prefix{}, fmt.Errorf("it lets in whoever has the address %q, which is not one that can be held against the passage's", r.address)
	}
	bits, ended := 0, false
	for _, b := range m.AsSlice() {
		for i := 7; i >= 0; i-- {
			one := b>>i&1 == 1
			if one && ended {
				return netip.Prefix{}, fmt.Errorf("its mask %s has holes", r.netmask)
			}
			if one {
				bits++
			} else {
				ended = true
			}
		}
	}
	p := netip.PrefixFrom(a, bits)
	if a.Is4In6() && bits >= 96 {
		p = netip.PrefixFrom(a.Unmap(), bits-96)
	}
	return p, nil
}
