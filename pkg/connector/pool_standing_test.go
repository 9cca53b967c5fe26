package connector_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// A connection that was closed before it could open, because one of a newer document took its place, is not degraded for ever: batches of
// the older document open another one, whose state counts. After a restore of etcd the document in force may be the one of the lower revision.
func TestStandingOfAReplacedConnection(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var away atomic.Bool
		away.Store(true)
		s := &shop{fail: func(addr string) error {
			if away.Load() && addr == "a" {
				return errors.New("no password is right")
			}
			return nil
		}}
		p := s.pool(t)
		stands := func(k *connector.Kept, want connector.Standing) {
			t.Helper()
			synctest.Wait()
			if got, why := k.Standing(); got != want {
				t.Errorf("it stands %v (%s), want %v", got, why, want)
			}
		}
		restored := p.Keep(document("a", 1))
		restored.InForce()
		stands(restored, connector.Degraded)
		newer := p.Keep(document("b", 2))
		end(t, get(t, p, document("b", 2))) // a batch that ran on it before the restore
		stands(newer, connector.Connected)
		stands(restored, connector.Opening)

		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		tried := make(chan error, 1)
		go func() {
			conn, err := p.Get(ctx, document("a", 1))
			if err == nil {
				err = conn.Close()
			}
			tried <- err
		}()
		stands(restored, connector.Degraded)
		if err := <-tried; err == nil {
			t.Error("it opened")
		}
		away.Store(false)
		user := get(t, p, document("a", 1))
		stands(restored, connector.Connected)
		end(t, user)
		restored.Release()
		newer.Release()
		time.Sleep(time.Minute) // the connection that lingers closes
		expect(t, s, "opened b, opened a, closed b, closed a")
	})
}
