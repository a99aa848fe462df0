package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/events/jetstream"
)

// patients of the demo's clinic: few enough that all of them fit a screen.
const patients = 12

// tell goes through the story. It ends at the first step that does not show
// what it says.
func (d *demo) tell(ctx context.Context) error {
	d.w.say("\nA few words to keep the commands short. The first puts in our configuration; the\nsecond runs a command as the agent's account, outside of the guard; the third runs\nit inside, with the agent's token. DEMO is %s, and\nthe PG* variables say where the clinic is.", d.Dir)
	d.w.command(strings.TrimRight(d.prelude(), "\n"))
	for _, part := range []func(context.Context) error{d.masking, d.aggregate, d.refusal, d.dodges, d.identity, d.death, d.evidence} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes a token that will have expired when the story comes to it.
func prepare(ctx context.Context, s *stand.Stand) error {
	token, err := s.OIDC.Token(ctx, "agent-a", "", time.Second)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.Dir, "tokens", "expired.jwt"), token, 0o600)
}

const rows = `"SELECT id, name, ssn, birth_date, city FROM patients ORDER BY id LIMIT 3"`

func (d *demo) masking(ctx context.Context) error {
	if _, err := d.step(ctx, step{
		title: "A query outside of the guard", why: "psql, the account and its password are the ordinary ones. Nobody is in the way.",
		command: "outside psql -c " + rows,
		checks:  []check{exits(0), has("names, numbers and dates are there as they are stored", `Canary`, `987-00-0001`, `-(1[3-9]|2\d) `)},
	}); err != nil {
		return err
	}
	_, err := d.step(ctx, step{
		title: "The same query inside", why: "The kernel turned the connection; psql was not changed and was not told. The server itself\ncomputed the masks: the rows that it sent hold nothing else.",
		command: "agent psql -c " + rows,
		checks:  []check{exits(0), masked(), has("masks stand in their place, and the rest is untouched", `\*\*\*-\*\*-0001`, `-01-01`, `Portland`)},
	})
	return err
}

func (d *demo) aggregate(ctx context.Context) error {
	const query = `"SELECT city, blood_type, count(*) FROM patients GROUP BY 1, 2 ORDER BY 1, 2"`
	direct, err := d.shell(ctx, "outside psql -c "+query)
	if err != nil {
		return err
	}
	_, err = d.step(ctx, step{
		title: "An aggregate", why: "Nothing protected is in it, so that nothing changes.",
		command: "agent psql -c " + query,
		checks: []check{exits(0), {"the same bytes as outside", func(r result) bool {
			return r.out == direct.out && strings.Contains(r.out, "Boston")
		}}},
	})
	return err
}

func (d *demo) refusal(ctx context.Context) error {
	_, err := d.step(ctx, step{
		title: "A destructive statement", why: "The account may delete; the policy does not let it. The refusal is an ordinary error of\nPostgreSQL, and the session goes on.",
		command: `agent psql -c "DELETE FROM patients" -c "SELECT count(*) AS still_there FROM patients"`,
		checks: []check{
			has("refused with the rule, the reason and a remedy", `(?m)^ERROR: `, `no-destruction`, `(?m)^HINT: `),
			has("the session is usable, and every patient is still there", fmt.Sprintf(`still_there\s+-+\s+%d\s`, patients)),
		},
	})
	return err
}

func (d *demo) dodges(ctx context.Context) error {
	for i, s := range []step{
		{
			command: `agent psql -c "SELECT upper(ssn), reverse(ssn) FROM patients LIMIT 2" -c "SELECT p.ssn AS city FROM patients p LIMIT 2"`,
			checks:  []check{exits(0), masked(), has("functions and aliases see masks only", `\*\*`)},
		},
		{
			command: `agent psql -c "COPY patients TO STDOUT"`,
			checks:  []check{exits(0), masked(), has("so does COPY", `(?m)^12\t.*\*\*\*-\*\*-0012`)},
		},
		{
			command: `agent psql -c "SELECT ssn::int FROM patients"`,
			checks:  []check{masked(), has("and the error of a cast", `ERROR: `)},
		},
	} {
		if i == 0 {
			s.title, s.why = "Attempts to dodge", "What the server masks at the source stays masked, however it is carried out."
		}
		if _, err := d.step(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) identity(ctx context.Context) error {
	a := d.Agents["agent-a"]
	refused := func(token string) string {
		return fmt.Sprintf(`sallyport exec --token-file $DEMO/tokens/%s.jwt --user %s -- psql -c "SELECT 1"`, token, a.User)
	}
	if _, err := d.step(ctx, step{
		title: "An agent without a valid token", why: "The token of somebody else, sound as it is, is not this workload's to present. Nor is an\nexpired one of any use.",
		command: refused("agent-b"),
		checks:  []check{exits(2), has("refused: the workload may not present it", `FATAL: `, `agent-b`)},
	}); err != nil {
		return err
	}
	_, err := d.step(ctx, step{
		command: refused("expired"), settle: 5 * time.Second,
		checks: []check{exits(2), has("refused: the token has expired", `FATAL: `, `expired`)},
	})
	return err
}

func (d *demo) evidence(ctx context.Context) error {
	if _, err := d.step(ctx, step{
		title: "The audit stream, as a SIEM subscriber sees it", why: "Events come over NATS as OCSF JSON; here each on a line. They hold no data and no literals.",
		command: fmt.Sprintf("sallyport events tail --nats %s --nkey %s --from-start --timeout 1s | grep -E ' (mask|block) '", d.NATS(), d.short(d.Seed(jetstream.RoleSIEM))),
		settle:  5 * time.Second,
		checks: []check{
			has("masked, refused and unknown, all are there", `mask\s.*clinic\.patients\.ssn`, `block\s.*no-destruction`, `agent-b`),
			masked(),
		},
	}); err != nil {
		return err
	}
	if _, err := d.step(ctx, step{
		title: "Who did what", why: "The recorder has checked each record against the one before it, and stored it.",
		command: "sallyport sessions ls --store $DEMO/recorder --limit 8", settle: 5 * time.Second,
		checks: []check{exits(0), has("each session with its agent, for whom it acted, and what was refused", `agent-a\s+agent-a\s+alice\s+clinic`)},
	}); err != nil {
		return err
	}
	// The oldest: later ones may be of a token that expired in mid-session.
	ls, err := d.shell(ctx, "sallyport sessions ls --store $DEMO/recorder --workload agent-a --verdict block | awk 'NR > 1 { id = $1 } END { print id }'")
	if err != nil {
		return err
	}
	id := strings.TrimSpace(ls.out)
	if id == "" {
		return errors.New("the recorder has no session with a refused statement")
	}
	if _, err := d.step(ctx, step{
		title: "One session, statement by statement", why: "Identity and how it was proved, the exact statements, what was decided, and why.",
		command: "sallyport sessions show --store $DEMO/recorder " + id, settle: 5 * time.Second,
		checks: []check{exits(0), has("the refused statement, with its rule", `DELETE FROM patients`, `verdict\s+block by no-destruction`, `oidc\+pidfd`)},
	}); err != nil {
		return err
	}
	if _, err := d.step(ctx, step{
		title: "Its transcript", why: "Each answer as the agent saw it, to be played in the timing of the original.",
		command: "sallyport sessions replay --store $DEMO/recorder --speed 0 " + id,
		checks:  []check{exits(0), masked(), has("statements, errors and rows", `DELETE FROM patients`, `ERROR`, `still_there`)},
	}); err != nil {
		return err
	}
	_, err = d.step(ctx, step{
		title: "The chain", why: "Every record's hash is computed again. A record that was removed, changed or moved would be named.",
		command: "sallyport verify --store $DEMO/recorder",
		checks:  []check{exits(0), has("sound", `sound: every record is there`)},
	})
	return err
}

// short writes a path below the stand's folder as the story does.
func (d *demo) short(path string) string { return strings.Replace(path, d.Dir, "$DEMO", 1) }
