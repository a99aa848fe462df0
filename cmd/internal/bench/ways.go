package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/stand"
)

// benchPolicy: agent-b is relayed under an unconditional allow, agent-a is
// analysed and masked.
const benchPolicy = `
rules:
  - name: relayed
    effect: allow
    identity: {workload: agent-b}
    resource: clinic
    commands: "*"
    relations: "*"
  - name: analysed
    effect: allow
    identity: {workload: agent-a}
    resource: clinic
    commands: [read, session, write]
    relations: "*"
  - name: masked
    effect: mask
    identity: {workload: agent-a}
    resource: clinic
    fields:
      clinic.patients.name: redact
      clinic.patients.ssn: {mask: partial, last: 4}
      clinic.patients.birth_date: year
      clinic.patients.phone: "null"
      clinic.patients.email: {mask: redact, constant: hidden@example.org}
      # As long as what it hides: the answers have the same size both ways.
      public.wide.b: {mask: redact, constant: "................................"}
`

// way is one way to the server.
type way struct {
	name    string
	command func(ctx context.Context, argv ...string) (*exec.Cmd, error)
	pid     func() (int, error) // of the process between; nil: none
}

type bench struct {
	o      options
	stand  *stand.Stand
	others []other
}

func configure(c *config.Config) { c.Limits.Sessions = 20_000 }

// prepare fills the server and starts what it is compared with.
func (b *bench) prepare(ctx context.Context, s *stand.Stand) error {
	b.stand = s
	cmd := s.Command(ctx, "pgbench", "-i", "-q", "-s", "10", s.PG.Admin(s.PG.Database))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pgbench -i: %w: %s", err, out)
	}
	grants := "GRANT ALL ON ALL TABLES IN SCHEMA clinic TO agent; CREATE TABLE public.wide AS SELECT g AS id, md5(g::text) AS a, md5((g+1)::text) AS b, g * 1.5 AS c, now() AS d FROM generate_series(1, " +
		strconv.Itoa(b.o.rows) + ") g; GRANT SELECT ON public.wide TO agent; VACUUM ANALYZE public.wide;"
	for _, sql := range strings.Split(grants, ";") {
		if strings.TrimSpace(sql) == "" {
			continue
		}
		if err := s.PG.Exec(ctx, s.PG.Database, sql); err != nil {
			return err
		}
	}
	return b.begin(ctx, s)
}

func (b *bench) ways() []way {
	s := b.stand
	guarded := func(agent string) func(context.Context, ...string) (*exec.Cmd, error) {
		return func(ctx context.Context, argv ...string) (*exec.Cmd, error) {
			return s.Guarded(ctx, s.Agents[agent], argv...), nil
		}
	}
	direct := func(ctx context.Context, argv ...string) (*exec.Cmd, error) {
		return s.Direct(ctx, s.Agents["agent-b"], argv...)
	}
	ways := []way{{name: "direct", command: direct}}
	for _, o := range b.others {
		ways = append(ways, way{name: o.name, command: func(ctx context.Context, argv ...string) (*exec.Cmd, error) {
			cmd, err := direct(ctx, argv...)
			if err == nil {
				cmd.Env = append(cmd.Env, "PGPORT="+strconv.Itoa(o.port))
			}
			return cmd, err
		}, pid: func() (int, error) { return o.cmd.Process.Pid, nil }})
	}
	return append(ways,
		way{name: "sallyport, allow-all", command: guarded("agent-b"), pid: s.DaemonPID},
		way{name: "sallyport, masking", command: guarded("agent-a"), pid: s.DaemonPID},
	)
}

// cpu returns the processor time that a process has used.
func cpu(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("/proc/%d/stat is not understood", pid)
	}
	return time.Duration(user+system) * 10 * time.Millisecond, nil // USER_HZ is 100
}
