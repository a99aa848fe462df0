package main

import (
	"context"
	"fmt"
)

// death kills the daemon and brings it back.
func (d *demo) death(ctx context.Context) error {
	if _, err := d.step(ctx, step{
		title: "The daemon, killed", why: "The guard is pinned in the kernel: without a daemon it refuses, it lets nobody through. The\nagent is inside already when that happens, and connects a moment later.",
		command: `agent sh -c 'sleep 1; psql -c ` + rows + `' &
sleep 0.2; kill -9 $(sallyport guard status | awk '/^daemon/ { print $3 }'); wait $!`,
		checks: []check{exits(2), masked(), has("the kernel refuses the agent's connection", `Connection refused|not permitted`)},
	}); err != nil {
		return err
	}
	d.w.say("The daemon is started again.")
	if err := d.StartSallyport(ctx); err != nil {
		return err
	}
	_, err := d.step(ctx, step{
		title: "The daemon, back", why: "Nothing else was to be done.",
		command: "agent psql -c " + rows,
		checks:  []check{exits(0), masked(), has("the agent works again, with masks", `\*\*\*-\*\*-0001`)},
	})
	return err
}

// handOver says how to go on by hand.
func (d *demo) handOver() {
	a := d.Agents["agent-a"]
	d.w.title(d.steps+1, "Yours")
	d.w.say(`It is left running, until Ctrl-C.

  files        %s
  PostgreSQL   %s, database %s
  NATS         %s
  issuer       %s
  metrics      http://%s/metrics
  records      %s

Become the agent (as root):
`, d.Dir, d.PG.Addr, d.PG.Database, d.NATS(), d.OIDC.Issuer, d.Cfg.Metrics, d.Store)
	d.w.line(fmt.Sprintf("  PGPASSWORD=%s %s/sallyport -c %s exec --token-file %s --user %s -- psql -h %s -p %d -U %s %s\n",
		d.PG.Password, d.Bin, d.Config, a.Token, a.User, d.PG.Addr.Addr(), d.PG.Addr.Port(), d.PG.User, d.PG.Database))
}
