package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Times of kept requests.
const (
	// RequestWindow is for how long after it was first made a request may be made again: as long as connectors remember effects by default.
	RequestWindow = time.Hour
	// requestLease is for how long a request is kept. It is longer than RequestWindow, so that a request which comes too late is refused and
	// not taken for a new one.
	requestLease = 2 * RequestWindow
	// leaseShared is for how long requests are put under the same lease.
	leaseShared = time.Minute
)

// KeptRequest is what is remembered of a request that may be made again.
type KeptRequest struct {
	// Revision is the number of the revision that the request's rows run on, and Digest that of its documents.
	Revision int64        `json:"revision"`
	Digest   batch.Digest `json:"digest"`
	// Stream is the stream that the request's batches belong to, in hexadecimal digits.
	Stream string `json:"stream"`
	// Body is a checksum of the rows.
	Body string `json:"body"`
	// After is when the request was kept, in milliseconds after etcd had granted the lease.
	After int64 `json:"after_milliseconds"`
}

// Requests keeps requests in etcd, each under a hash of its key. No clock is compared with another one: the age of a request is counted
// from its lease, by etcd. The methods may be called by any goroutine.
type Requests struct {
	store *Store
	// lease has the lease for new requests. The goroutine that has taken it out owns it until it is put back.
	lease chan requestsLease
}

// requestsLease is a lease that requests are put under.
type requestsLease struct {
	id      clientv3.LeaseID // 0 means none
	granted time.Time        // when etcd had granted it, by this process's monotonic clock
}

// Requests makes the keeper of requests of one process.
func (s *Store) Requests() *Requests {
	r := &Requests{store: s, lease: make(chan requestsLease, 1)}
	r.lease <- requestsLease{}
	return r
}

// Keep keeps a request under a hash, and returns nil, unless one is kept there already. Then it returns that one, and how long ago it was
// kept. An age above RequestWindow says that it is too late to make the request again.
func (r *Requests) Keep(ctx context.Context, hash string, request KeptRequest) (earlier *KeptRequest, age time.Duration, err error) {
	if err := checkName(hash); err != nil {
		return nil, 0, batch.Errorf(batch.CodeInternal, "keeping a request: %w", err)
	}
	lease, err := r.current(ctx)
	if err != nil {
		return nil, 0, err
	}
	request.After = time.Since(lease.granted).Milliseconds()
	value, err := json.Marshal(request)
	if err != nil {
		return nil, 0, fmt.Errorf("keep a request: %w", err)
	}
	key := r.store.keys.request(hash)
	t := r.store.transaction("keeping a request")
	t.requireCreated(key, 0)
	t.put(key, string(value), clientv3.WithLease(lease.id))
	t.otherwise = append(t.otherwise, clientv3.OpGet(key))
	answer, err := t.commit(ctx)
	if err != nil {
		r.forget(ctx, lease) // etcd may have lost the lease
		return nil, 0, err
	}
	if answer.Succeeded {
		return nil, 0, nil
	}
	kvs := answer.Responses[0].GetResponseRange().GetKvs()
	if len(kvs) == 0 { // it expired between the condition and the read, which are one transaction
		return nil, 0, batch.Errorf(batch.CodeInternal, "keeping a request: etcd has the key %s and does not have it", key)
	}
	earlier = new(KeptRequest)
	if err := json.Unmarshal(kvs[0].Value, earlier); err != nil {
		return nil, 0, batch.Errorf(batch.CodeInternal, "reading %s in etcd: %w", key, err)
	}
	age, err = r.age(ctx, clientv3.LeaseID(kvs[0].Lease), earlier)
	return earlier, age, err
}

// current returns the lease for new requests, and takes a new one where the old one was shared for long enough.
func (r *Requests) current(ctx context.Context) (requestsLease, error) {
	var lease requestsLease
	select {
	case lease = <-r.lease:
	case <-ctx.Done():
		return lease, r.store.explain(ctx, "keeping a request", ctx.Err())
	}
	if lease.id == 0 || time.Since(lease.granted) >= leaseShared {
		answer, err := r.store.grant(ctx, requestLease)
		if err != nil {
			r.lease <- requestsLease{}
			return lease, err
		}
		lease = requestsLease{id: answer.ID, granted: time.Now()}
	}
	r.lease <- lease
	return lease, nil
}

// forget has the next request put under a new lease, unless that is so already.
func (r *Requests) forget(ctx context.Context, lease requestsLease) {
	select {
	case now := <-r.lease:
		if now.id == lease.id {
			now = requestsLease{}
		}
		r.lease <- now
	case <-ctx.Done():
	}
}

// age returns how long ago a request was kept, which is under a lease.
func (r *Requests) age(ctx context.Context, lease clientv3.LeaseID, request *KeptRequest) (time.Duration, error) {
	call, cancel := context.WithTimeout(ctx, r.store.timeout)
	defer cancel()
	left, err := r.store.client.TimeToLive(call, lease)
	if err != nil {
		return 0, r.store.explain(ctx, "reading the lease of a request", err)
	}
	passed := time.Duration(left.GrantedTTL-max(left.TTL, 0)) * time.Second
	return max(0, passed-time.Duration(request.After)*time.Millisecond), nil
}
