package redirect

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/cilium/ebpf"

	"sallyport.dev/sallyport/bpf"
	"sallyport.dev/sallyport/intercept"
)

// Status is what the kernel says of a guard, not what anybody remembers.
type Status struct {
	Up           bool                    `json:"up"` // every program is attached to the live cgroup2 root, and to its wires
	Mode         string                  `json:"mode"`
	Observes     bool                    `json:"observes"` // nothing is refused or dropped
	Port         uint16                  `json:"port"`
	Root         string                  `json:"cgroup2"` // where cgroup2 is mounted
	Programs     []ProgramStatus         `json:"programs"`
	Destinations []intercept.Destination `json:"destinations"`
	UnixPaths    []string                `json:"unix_paths,omitempty"` // protected unix sockets
	Wires        []WireStatus            `json:"wires,omitempty"`      // ends of veth pairs that are guarded
	Neighbours   []Neighbour             `json:"neighbours,omitempty"` // programs of others
	Covered      []string                `json:"covered"`              // cgroups; "#id" for one that is gone
	Around       string                  `json:"around,omitempty"`     // covered too: the list has no place for all that are
	Exempt       []string                `json:"exempt"`
	Listening    int                     `json:"listening"` // network namespaces with a passage
	Daemon       bool                    `json:"daemon"`    // an exempted daemon is alive
	DaemonPID    uint32                  `json:"daemon_pid,omitempty"`
	Counters     Counters                `json:"counters"`
}

// ProgramStatus is one program's.
type ProgramStatus struct {
	Name     string `json:"name"`
	Attached bool   `json:"attached"`
	Problem  string `json:"problem,omitempty"`
}

// GetStatus asks the kernel. ErrNotUp: nothing is pinned there.
func GetStatus(pins string) (Status, error) {
	s, err := status(pins)
	if err != nil {
		return Status{}, fmt.Errorf("guard status: %w", err)
	}
	return s, nil
}

func status(pins string) (s Status, err error) {
	if pins == "" {
		pins = DefaultPins
	}
	dir, err := findPins(pins)
	if err != nil {
		return s, err
	}
	if s.Root, err = (Host{}).CgroupRoot(); err != nil {
		return s, err
	}
	rootID, err := cgroupID(s.Root, "/")
	if err != nil {
		return s, err
	}
	s.Up = true
	for _, h := range haveHooks() {
		p := ProgramStatus{Name: h.name, Attached: true}
		if err := h.attached(dir, s.Root, rootID); err != nil {
			s.Up, p.Attached, p.Problem = false, false, err.Error()
		}
		s.Programs = append(s.Programs, p)
	}
	if s.Wires, err = wireStatus(dir); err != nil {
		return s, err
	}
	for _, w := range s.Wires {
		s.Up = s.Up && w.Attached
	}
	if s.Neighbours, err = neighbours(dir, s.Root); err != nil {
		return s, err
	}
	return s, s.read(dir)
}

// read fills what stands in the maps.
func (s *Status) read(dir string) error {
	var config, destinations, covered, exempt, processes, listeners, counters *ebpf.Map
	for name, m := range map[string]**ebpf.Map{
		bpf.GuardMapConfig: &config, bpf.GuardMapDestinations: &destinations,
		bpf.GuardMapCovered: &covered, bpf.GuardMapExempt: &exempt,
		bpf.GuardMapProcesses: &processes, bpf.GuardMapListeners: &listeners,
		bpf.GuardMapCounters: &counters,
	} {
		var err error
		if *m, err = ebpf.LoadPinnedMap(filepath.Join(dir, name), &ebpf.LoadPinOptions{ReadOnly: true}); err != nil {
			return fmt.Errorf("pinned map %s: %w", name, err)
		}
		defer (*m).Close()
	}
	var settings bpf.GuardSettings
	if err := config.Lookup(uint32(0), &settings); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	for name, mode := range modes {
		if mode == settings.Mode {
			s.Mode = name
		}
	}
	s.Port, s.Observes = settings.Port, settings.Observes != 0
	keys, err := content[bpf.GuardPrefix, bpf.GuardPorts](destinations)
	if err != nil {
		return fmt.Errorf("destinations: %w", err)
	}
	s.Destinations = destinationsOf(keys)
	if s.UnixPaths, err = protectedPaths(dir); err != nil {
		return err
	}
	names := map[uint64]string{}
	if err := subtree(s.Root, "/", names); err != nil {
		return fmt.Errorf("cgroups: %w", err)
	}
	if s.Covered, err = cgroupNames(covered, names); err != nil {
		return err
	}
	s.Around = names[settings.Around]
	if s.Exempt, err = cgroupNames(exempt, names); err != nil {
		return err
	}
	passages, err := content[uint64, bpf.GuardListener](listeners)
	if err != nil {
		return fmt.Errorf("listeners: %w", err)
	}
	s.Listening = len(passages)
	trusted, err := content[bpf.GuardProcessKey, bpf.GuardProcess](processes)
	if err != nil {
		return fmt.Errorf("processes: %w", err)
	}
	for k, p := range trusted {
		if k.Role == uint32(bpf.GuardRoleROLE_DAEMON) && alive(k.Tgid, p.Start) {
			s.Daemon, s.DaemonPID = true, k.Tgid
		}
	}
	s.Counters, err = readCounters(counters)
	return err
}

// cgroupNames lists a map of cgroups by their paths.
func cgroupNames(m *ebpf.Map, names map[uint64]string) ([]string, error) {
	ids, err := content[uint64, uint32](m)
	if err != nil {
		return nil, fmt.Errorf("cgroups: %w", err)
	}
	list := []string{}
	for id := range ids {
		name := names[id]
		if name == "" {
			name = "#" + strconv.FormatUint(id, 10)
		}
		list = append(list, name)
	}
	slices.Sort(list)
	return list, nil
}
