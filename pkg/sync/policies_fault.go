package ratesync

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// storeFault says what failed, and the mend where the store told what it has against it.
func storeFault(what string, err error) error {
	if err == nil {
		return nil
	}
	for _, known := range []struct {
		is   bool
		mend string
	}{
		{redis.IsAuthError(err), "give user and password: redis.username and redis.password_file"},
		{redis.IsPermissionError(err), "the ACL user needs +@hash +@scripting +@pubsub +type +time +del +pexpire +pttl, and the keys and channels of redis.key_prefix"},
		{redis.IsReadOnlyError(err), "this is a replica: name the master, or find it by redis.sentinel"},
		{redis.IsOOMError(err), "Redis has no memory left: raise its maxmemory"},
		{redis.IsLoadingError(err), "Redis has just started: try again"},
		{redis.IsMasterDownError(err), "the replica has lost its master"},
		{redis.IsClusterDownError(err), "a part of the Redis Cluster is down: see its CLUSTER INFO"},
		{redis.IsMaxClientsError(err), "raise Redis' maxclients"},
		{redis.HasErrorPrefix(err, "MISCONF"), "Redis can't write its snapshot, and takes no changes: see its log"},
		{redis.HasErrorPrefix(err, "NOREPLICAS"), "Redis has fewer replicas than min-replicas-to-write"},
		{redis.HasErrorPrefix(err, "CROSSSLOT"), "set redis.cluster: true"},
		{errors.Is(err, context.DeadlineExceeded), "is Redis there? see redis.url"},
	} {
		if known.is {
			return fmt.Errorf("%s: %w (%s)", what, err, known.mend)
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}
