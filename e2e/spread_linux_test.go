package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/client"
)

// nameServer is a DNS server that answers every question for an IPv4 address with the same hosts.
type nameServer struct {
	address string

	mu    sync.Mutex
	hosts []string // guarded by mu
}

// startNameServer starts a DNS server that answers with the hosts. It ends with the test.
func startNameServer(t *testing.T, hosts ...string) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nameServer{address: conn.LocalAddr().String(), hosts: hosts}
	var serving sync.WaitGroup
	serving.Go(func() {
		buffer := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return // closed
			}
			if answer := n.answer(buffer[:size]); answer != nil {
				_, _ = conn.WriteTo(answer, from) // a client that gets no answer asks again
			}
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		serving.Wait()
	})
	return n
}

// say sets the hosts with which the server answers from now on.
func (n *nameServer) say(hosts ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts = hosts
}

// answer makes the answer to one question; nil means that the question can't be read.
func (n *nameServer) answer(question []byte) []byte {
	var p dnsmessage.Parser
	header, err := p.Start(question)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, Authoritative: true},
		Questions: []dnsmessage.Question{q},
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, host := range n.hosts {
		if q.Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class},
				Body:   &dnsmessage.AResource{A: [4]byte(net.ParseIP(host).To4())},
			})
		}
	}
	packed, err := m.Pack()
	if err != nil {
		return nil
	}
	return packed
}

// TestAddedCoordinators starts two more coordinators beside two that have all streams. Within half a minute each of the four takes
// between 15 and 35 percent of the batches, those of calls as well as those of open streams. This holds for clients with a list of
// addresses, and for clients with a DNS name that gets more addresses. No batch fails, none runs twice, and the last row of each key
// takes effect last.
func TestAddedCoordinators(t *testing.T) {
	const (
		clients, streams = 12, 2 // each client has so many streams
		within           = 30 * time.Second
		rows             = 10 // rows in each batch
		streamed, called = "CalStuAvgScore12", "Check"
	)
	g := newGrid(t)
	_, port, err := net.SplitHostPort(testprocess.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	hosts := []string{"127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"}
	var addresses []string
	for _, host := range hosts {
		addresses = append(addresses, net.JoinHostPort(host, port))
	}
	testgrid.StartEtcd(t, g.Etcd, t.TempDir())
	testgrid.StartRedis(t, g.Redis)
	start := func(i int) {
		c := g.AddCoordinator()
		c.Address = addresses[i]
		c.Start().Ready()
	}
	start(0)
	start(1)
	g.StartWorker("w1")
	g.AwaitWorkers(1)
	check := filepath.Join(t.TempDir(), "check.yaml")
	if err := os.WriteFile(check, []byte("kistype: flow\nflow_name: "+called+"\nstatus: 1\nflows: [{fname: VerifyStu}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.MustKisgrid("", "apply", "-f", conf)
	g.MustKisgrid("", "apply", "-f", check)

	names := startNameServer(t, hosts[:2]...)
	targets := []string{strings.Join(addresses, ","), "dns://" + names.address + "/coordinators.test:" + port}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var load sync.WaitGroup
	defer load.Wait()
	want, sent := make([]map[int]float64, clients*streams), make([]int, clients*streams)
	for i := range clients {
		c, err := client.Dial(targets[i%len(targets)])
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for j := range streams {
			n := i*streams + j
			want[n] = map[int]float64{}
			load.Go(func() { sent[n] = pushScores(ctx, t, c, streamed, n*20, rows, want[n]) })
		}
		load.Go(func() {
			for ctx.Err() == nil {
				if _, err := c.Submit(t.Context(), called, client.Rows(`{"stu_id":1}`)); err != nil {
					t.Errorf("submit: %v", err)
				}
				rest(ctx, 100*time.Millisecond)
			}
		})
	}
	counts := func(flow string) (all []float64) {
		for i := range hosts {
			if i >= len(g.Coordinators) {
				all = append(all, 0) // this coordinator is not started yet
				continue
			}
			n, err := testgrid.Metric(g.Coordinators[i].HTTP, "kisgrid_rows_in_total", `flow="`+flow+`"`)
			if err != nil {
				n = 0 // the coordinator has had no row of the flow
			}
			all = append(all, n)
		}
		return all
	}
	testprocess.Until(t, "the first two coordinators share the batches", func() error {
		for _, flow := range []string{streamed, called} {
			if n := counts(flow); n[0] < clients || n[1] < clients {
				return fmt.Errorf("flow %s has sent them %v rows", flow, n)
			}
		}
		return nil
	})

	start(2)
	start(3)
	names.say(hosts...)
	began := time.Now()
	for {
		shares, even := map[string][]int{}, true
		before := map[string][]float64{streamed: counts(streamed), called: counts(called)}
		rest(ctx, 2*time.Second)
		for flow, before := range before {
			var sum float64
			after := counts(flow)
			for i := range after {
				sum += after[i] - before[i]
			}
			for i := range after {
				percent := 100 * (after[i] - before[i]) / max(1, sum)
				shares[flow] = append(shares[flow], int(percent))
				even = even && percent >= 15 && percent <= 35
			}
		}
		t.Logf("%s after the last one came, each coordinator has these percents: %v", time.Since(began).Round(time.Second), shares)
		if even {
			break
		}
		if time.Since(began) > within {
			t.Fatalf("after %s the batches are not spread evenly", within)
		}
	}
	stop()
	load.Wait()

	total := 0.0
	for _, n := range sent {
		total += float64(n)
	}
	testprocess.Until(t, "the coordinators have counted each row once", func() error { // the counter is raised after the answer is sent
		sum := 0.0
		for _, n := range counts(streamed) {
			sum += n
		}
		if sum != total {
			return fmt.Errorf("%g rows were sent, %g came in", total, sum)
		}
		return nil
	})
	for _, w := range want {
		checkAverages(g, w)
	}
}

// rest waits for the duration d, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// pushScores streams batches of 20 students, from the number first on, until ctx is done. It returns how many rows it has sent. Want
// gets the average that each student must have in the end. Each row must be done.
func pushScores(ctx context.Context, t *testing.T, c *client.Client, flow string, first, rows int, want map[int]float64) (sent int) {
	s, err := c.Stream(t.Context(), flow)
	if err != nil {
		t.Errorf("open a stream: %v", err)
		return 0
	}
	var waiting sync.WaitGroup
	for n := 0; ctx.Err() == nil; n++ {
		batch := make([]string, rows)
		for i := range batch {
			id, score := first+(n*rows+i)%20, n%101
			batch[i] = fmt.Sprintf(`{"stu_id":%d,"score_1":%d,"score_2":%d}`, id, score, score)
			want[id] = float64(score)
		}
		p, err := s.Send(t.Context(), client.Rows(batch...))
		if err != nil {
			t.Errorf("send: %v", err)
			return sent
		}
		sent += rows
		waiting.Go(func() {
			if r, err := p.Wait(t.Context()); err != nil {
				t.Errorf("batch: %v", err)
			} else if len(r.NotDone) > 0 {
				t.Errorf("batch %s: %+v", r.BatchID, r.NotDone[0])
			}
		})
		rest(ctx, 50*time.Millisecond)
	}
	waiting.Wait()
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	return sent
}
