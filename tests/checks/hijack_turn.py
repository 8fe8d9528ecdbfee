"""One turn of a hijack in parts, and the mistakes that any such turn can make.

The turns of chapters 32 and 35 differ in one loss: what the server's own networks (pilot and
decoder; pilot and head) learn on public images.
"""

import torch
import torch.nn.functional as F


class Turn:
    """A right turn but for `public_loss`, which a bank adds. A mistake overrides one part."""

    def take(self, client_z, x_public, pilot, critic, own_step, critic_step):
        self.pilot, self.critic = pilot, critic
        self.own_step, self.critic_step = own_step, critic_step
        self.client_z, self.x = client_z, x_public
        dz = self.dz()
        self.z_public = pilot(x_public)
        self.learn_own()
        self.learn_critic()
        own_step.step()
        critic_step.step()
        return self.result(dz)

    def client_loss(self, z):
        return self.critic(z).mean()

    def dz(self):
        z = self.client_z.detach().requires_grad_()
        return torch.autograd.grad(self.client_loss(z), z)[0]

    def public_loss(self):
        raise NotImplementedError

    def learn_own(self):
        self.own_step.zero_grad()
        self.public_loss().backward()

    def critic_loss(self):
        return self.critic(self.z_public.detach()).mean() - self.critic(self.client_z).mean()

    def learn_critic(self):
        self.critic_step.zero_grad()
        self.critic_loss().backward()

    def result(self, dz):
        return dz


def register(bank, exercise, right, own, z):
    """Register the mistakes that a turn can make, whatever its own networks learn.

    Args:
        bank: the bank of the exercise's chapter.
        exercise: the exercise's name.
        right: the right turn, a `Turn` that can be called as the exercise asks.
        own: how the messages call the own networks ("pilot and decoder").
        z: how they call the client's features ("client_z").
    """

    def mistake(message):
        return bank.mistaken_class(exercise, message)

    @mistake("backward through the graph a second time")
    class PilotAttached(right):
        def critic_loss(self):
            return self.critic(self.z_public).mean() - self.critic(self.client_z).mean()

    @mistake("detach z_public")
    class PilotAttachedAndSilenced(PilotAttached):
        def learn_own(self):
            self.own_step.zero_grad()
            self.public_loss().backward(retain_graph=True)

    @mistake("to please or to tease the critic")
    class PilotFoolsTheCritic(right):
        def public_loss(self):
            return super().public_loss() - self.critic(self.z_public).mean()

    @mistake("the critic's step contains the last turn's gradient, too: call zero_grad")
    class CriticNotCleared(right):
        def learn_critic(self):
            self.critic_loss().backward()

    @mistake(f"the step of {own} contains the last turn's gradient, too")
    class OwnNotCleared(right):
        def learn_own(self):
            self.public_loss().backward()

    @mistake("dz is 0")
    class GradShared(right):
        def dz(self):
            self.client_z = self.client_z.detach().requires_grad_()
            self.client_loss(self.client_z).backward()
            return self.client_z.grad

    @mistake("dz has the wrong sign")
    class Climbs(right):
        def client_loss(self, z):
            return -self.critic(z).mean()

    @mistake("dz is too large")
    class ClientSum(right):
        def client_loss(self, z):
            return self.critic(z).sum()

    @mistake("not the gradient of (3)")
    class ClientWithCrossEntropy(right):
        def client_loss(self, z):
            return F.softplus(-self.critic(z)).mean()

    @mistake("after the critic's step")
    class ClientLast(right):
        def result(self, dz):
            return self.dz()

    @mistake("nothing of the private side")
    class ClientGradientLeft(right):
        def dz(self):
            self.critic_step.zero_grad()
            z = self.client_z.detach().requires_grad_()
            self.client_loss(z).backward()
            return z.grad

        def learn_critic(self):
            self.critic_loss().backward()

    @mistake("the gradient of the client's loss (3) instead of its own")
    class CriticForgotten(ClientGradientLeft):
        def learn_critic(self):
            pass

    @mistake("the critic does not move")
    class CriticStands(right):
        def learn_critic(self):
            self.critic_step.zero_grad()

    @mistake("the critic's loss has the wrong sign")
    class CriticUpsideDown(right):
        def critic_loss(self):
            return -super().critic_loss()

    @mistake("a sum over the batch")
    class CriticSums(right):
        def critic_loss(self):
            return self.critic(self.z_public.detach()).sum() - self.critic(self.client_z).sum()

    @mistake("the critic's step does not follow")
    class CriticWithCrossEntropy(right):
        def critic_loss(self):
            public, private = self.critic(self.z_public.detach()), self.critic(self.client_z)
            return F.softplus(public).mean() + F.softplus(-private).mean()

    @mistake("features of the pilot after")
    class CriticLate(right):
        def learn_own(self):
            super().learn_own()
            self.own_step.step()
            self.own_step.zero_grad()
            self.z_public = self.pilot(self.x)

    @mistake("2 times the right size")
    class CriticTwice(right):
        def result(self, dz):
            self.critic_step.step()
            return dz

    @mistake(f"{own} do not move")
    class OwnStand(right):
        def learn_own(self):
            self.own_step.zero_grad()

    @mistake("climb their loss")
    class OwnClimb(right):
        def public_loss(self):
            return -super().public_loss()

    @mistake(f"{z} itself now requires a gradient")
    class OnTheMessage(right):
        def dz(self):
            self.client_z.requires_grad_()
            return torch.autograd.grad(self.client_loss(self.client_z), self.client_z)[0]

    buffers = {}

    @mistake("changes in a later turn")
    class OneBuffer(right):
        def result(self, dz):
            buffer = buffers.setdefault("turn", torch.zeros(1000, dtype=dz.dtype))[: dz.numel()]
            return buffer.copy_(dz.flatten()).view_as(dz)
