//go:build linux

package once

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	kisredis "github.com/kisgrid/kisgrid/pkg/connector/redis"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// TestFailover stops a Redis and promotes its replica. Without replicas, acknowledged Saves that the replica had not received are
// lost. With replicas: 1 a Save is acknowledged only when the replica has it, so none is lost. In both cases an effect that is sent
// again after the failover takes place once.
func TestFailover(t *testing.T) {
	for _, replicas := range []int{0, 1} {
		t.Run(fmt.Sprintf("replicas %d", replicas), func(t *testing.T) {
			masterAddress, replicaAddress := testprocess.Address(t), testprocess.Address(t)
			stopMaster, first := testgrid.RealRedis(t, masterAddress, "--repl-diskless-sync-delay", "0")
			line := testprocess.StartLine(t, masterAddress)
			host, port, _ := net.SplitHostPort(line.Address())
			_, second := testgrid.RealRedis(t, replicaAddress, "--replicaof", host+" "+port)
			testprocess.Until(t, "the replica is linked", func() error {
				if info := second.Info(t.Context(), "replication").Val(); !strings.Contains(info, "master_link_status:up") {
					return errors.New(info)
				}
				return nil
			})
			// A replica that is linked is not up to date yet: the master waits for a message that the replica sends once a second.
			conn := first.Conn()
			defer conn.Close()
			if err := conn.Set(t.Context(), "fed", "1", 0).Err(); err != nil {
				t.Fatal(err)
			}
			if n, err := conn.Wait(t.Context(), 1, testprocess.Patience).Result(); n != 1 {
				t.Fatalf("%d replicas are fed: %v", n, err)
			}
			open := func(address string) connector.Connection {
				c, err := kisredis.Open(t.Context(), &definition.Connector{
					Name: "Store", Type: "redis", Addrs: []string{address}, Replicas: replicas,
					Params: map[string]string{"replica_timeout": "200ms", "retry_min": "20ms", "retries": "4"},
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = c.Close() })
				return c
			}
			c := open(masterAddress)
			cause := connector.Cause{Flow: "F", Function: "s", Batch: batch.ID{Stream: batch.NewStreamID(), Sequence: 1}, Born: time.Now()}
			save := func(row int) error {
				_, err := c.Save(t.Context(), cause, []connector.Effect{
					{Op: connector.Append, Key: "list", Value: strconv.Itoa(row), Row: uint32(row)},
					{Op: connector.Incr, Key: "sum", Field: "n", Value: "1", Row: uint32(row), Command: 1},
				})
				return err
			}
			var acknowledged []string
			for row := range 10 {
				if err := save(row); err != nil {
					t.Fatal(err)
				}
				acknowledged = append(acknowledged, strconv.Itoa(row))
			}
			first.Wait(t.Context(), 1, 10*time.Second)
			// From here on the replica receives nothing more. Then the master stops.
			line.Cut()
			for row := 10; row < 20; row++ {
				if err := save(row); err == nil {
					acknowledged = append(acknowledged, strconv.Itoa(row))
				}
				if replicas > 0 {
					break // each Save would wait in vain for the replica
				}
			}
			stopMaster()
			if err := second.ReplicaOf(t.Context(), "no", "one").Err(); err != nil {
				t.Fatal(err)
			}
			list := second.LRange(t.Context(), "list", 0, -1).Val()
			lost := len(acknowledged) - len(list)
			t.Logf("%d Saves were acknowledged, %d of them are gone after the failover", len(acknowledged), max(0, lost))
			switch {
			case replicas == 0 && lost <= 0:
				t.Error("nothing is lost: this shows nothing")
			case replicas > 0 && lost > 0:
				t.Errorf("%d acknowledged Saves are gone in spite of replicas: 1: %v", lost, list)
			}
			// Effects that are sent again take place once.
			replicas = 0 // the promoted Redis has no replica
			c = open(replicaAddress)
			for range 2 {
				for row := range 20 {
					if err := save(row); err != nil {
						t.Fatal(err)
					}
				}
			}
			var want []string
			for row := range 20 {
				want = append(want, strconv.Itoa(row))
			}
			if got := second.LRange(t.Context(), "list", 0, -1).Val(); strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("the list is %v", got)
			}
			if sum := second.HGet(t.Context(), "sum", "n").Val(); sum != "20" {
				t.Errorf("the sum is %s, not 20", sum)
			}
		})
	}
}
