"""SQLAlchemy 2 over psycopg: reflection, ORM, a pool."""
import os
from sqlalchemy import ForeignKey, Integer, MetaData, String, create_engine, func, inspect, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

class Base(DeclarativeBase):
    metadata = MetaData(schema="alch")

class Owner(Base):
    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    pets: Mapped[list["Pet"]] = relationship(back_populates="owner")

class Pet(Base):
    __tablename__ = "pet"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str]
    owner_id: Mapped[int] = mapped_column(ForeignKey("alch.owner.id"))
    owner: Mapped[Owner] = relationship(back_populates="pets")

engine = create_engine("postgresql+psycopg://", pool_size=2)
with engine.begin() as conn:
    conn.execute(text("DROP SCHEMA IF EXISTS alch CASCADE"))
    conn.execute(text("CREATE SCHEMA alch"))
Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add_all([Owner(name="ann", pets=[Pet(name="rex"), Pet(name="tom")]), Owner(name="bob")])
    session.commit()
    print("pets", session.scalars(select(Pet.name).join(Owner).where(Owner.name == "ann").order_by(Pet.name)).all())
    print("counts", session.execute(select(Owner.name, func.count(Pet.id)).outerjoin(Pet).group_by(Owner.name).order_by(Owner.name)).all())
    ann = session.scalars(select(Owner).where(Owner.name == "ann")).one()
    session.delete(ann.pets[0])
    session.commit()
    print("left", session.scalar(select(func.count()).select_from(Pet)))
found = inspect(engine)
print("tables", sorted(found.get_table_names(schema="alch")))
print("columns", [(c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns("pet", schema="alch")])
print("keys", [k["referred_table"] for k in found.get_foreign_keys("pet", schema="alch")])
with engine.begin() as conn:
    conn.execute(text("DROP SCHEMA alch CASCADE"))
engine.dispose()
